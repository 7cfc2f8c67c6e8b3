/** Where a path leads once all its links are followed, also where its end does not exist. */

import { lstatSync, readlinkSync, statSync } from "node:fs";

const MOST_LINKS = 40;
const LONE_SURROGATE = /[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/;

/**
 * The parts of a path that say something.
 * @param {string} path
 */
export function partsOf(path) {
  return path.split("/").filter((part) => part !== "" && part !== ".");
}

/**
 * `path`, or what it is below `base`. Nothing is collapsed: `..` after a link leads elsewhere than its text says.
 * @param {string} base  absolute
 * @param {string} path
 */
export function joined(base, path) {
  return path.startsWith("/") ? path : `${base}/${path}`;
}

/**
 * The parts of `path` below `root`, by their text; null where it is not below it.
 * @param {string} path  absolute
 * @param {string} root  absolute
 */
export function below(path, root) {
  const parts = partsOf(path);
  const top = partsOf(root);
  return top.every((part, index) => parts[index] === part) ? parts.slice(top.length) : null;
}

/**
 * The absolute path with its links followed. Throws where that cannot be done: a loop of links, a NUL.
 * @param {string} path  absolute
 */
export function resolveLinks(path) {
  if (path.includes("\0") || LONE_SURROGATE.test(path)) throw new Error("no file can have that name");
  const waiting = partsOf(path).reverse();
  /** @type {string[]} */
  const done = [];
  let links = 0;
  for (let part = waiting.pop(); part !== undefined; part = waiting.pop()) {
    if (part === "..") {
      done.pop();
      continue;
    }
    const target = linkTarget(`/${[...done, part].join("/")}`);
    if (target === null) {
      done.push(part);
      continue;
    }
    if (++links > MOST_LINKS) throw new Error("the links go round in a circle");
    if (target.startsWith("/")) done.length = 0;
    waiting.push(...partsOf(target).reverse());
  }
  return `/${done.join("/")}`;
}

/**
 * @param {string} path
 * @returns {string | null}
 */
function linkTarget(path) {
  try {
    return lstatSync(path).isSymbolicLink() ? readlinkSync(path) : null;
  } catch {
    return null; // what is not there leads nowhere else
  }
}

/**
 * What is at `path`. Throws where that cannot be seen.
 * @param {string} path
 * @returns {"absent" | "file" | "directory" | "other"}
 */
export function kindOf(path) {
  try {
    const stat = statSync(path);
    return stat.isFile() ? "file" : stat.isDirectory() ? "directory" : "other";
  } catch (error) {
    const code = /** @type {NodeJS.ErrnoException} */ (error).code ?? "";
    if (["ENOENT", "ENOTDIR", "EBADF", "ELOOP"].includes(code)) return "absent";
    throw error;
  }
}
