// gitlab-ci-local needs this method of Node.js 22; all else that it uses, Node.js 20 has.
Set.prototype.union ??= function union(other) {
  return new Set([...this, ...other]);
};
