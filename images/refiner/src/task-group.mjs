/** Work that stands or falls together: the first failure aborts the rest, and is the one that is reported. */
export class TaskGroup {
  #failure = new AbortController();

  /** @param {AbortSignal} parent aborts the group from outside */
  constructor(parent) {
    /** To be handed to everything that the group does. */
    this.signal = AbortSignal.any([parent, this.#failure.signal]);
  }

  /** @param {unknown} error */
  fail(error) {
    this.#failure.abort(error);
  }

  /**
   * Waits until every task is over, so that a failed group leaves nothing running behind.
   *
   * @template T
   * @param {Promise<T>[]} tasks
   * @returns {Promise<T[]>}
   * @throws what the first failure of the group threw
   */
  async all(tasks) {
    const results = await Promise.allSettled(tasks.map((task) => task.catch((error) => this.fail(error))));
    this.signal.throwIfAborted();
    return results.map(({ value }) => value);
  }
}
