/** Waiting that ends. */

/**
 * @template T
 * @returns {{promise: Promise<T>, resolve: (value: T) => void, reject: (error: unknown) => void}}
 */
export function deferred() {
  /** @type {(value: T) => void} */
  let resolve = () => {};
  /** @type {(error: unknown) => void} */
  let reject = () => {};
  const promise = /** @type {Promise<T>} */ (new Promise((yes, no) => ((resolve = yes), (reject = no))));
  promise.catch(() => {}); // whoever wants it awaits it
  return { promise, resolve, reject };
}

/** @type {unique symbol} */
export const LATE = Symbol("late");

/**
 * What `promise` gives, or LATE after `ms`.
 * @template T
 * @param {Promise<T>} promise
 * @param {number} ms
 * @returns {Promise<T | typeof LATE>}
 */
export async function within(promise, ms) {
  /** @type {NodeJS.Timeout | undefined} */
  let timer;
  const late = /** @type {Promise<typeof LATE>} */ (new Promise((resolve) => (timer = setTimeout(() => resolve(LATE), ms))));
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** @param {number} ms */
export function sleep(ms) {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
