/** What processes use, as far as /proc tells. */

import { readdirSync, readFileSync } from "node:fs";

/**
 * The resident memory of each process in `roots` together with all below it, in bytes; null where it is not known.
 * @param {(number | null)[]} roots
 * @returns {(number | null)[]}
 */
export function memoryOf(roots) {
  if (roots.every((pid) => pid === null)) return roots.map(() => null);
  const parents = new Map();
  for (const pid of runningPids()) {
    const parent = parentOf(pid);
    if (parent !== null) parents.set(pid, parent);
  }
  return roots.map((root) => (root === null || !parents.has(root) ? null : sum([root, ...belowRoot(root, parents)])));
}

/** @param {number[]} pids */
function sum(pids) {
  return pids.reduce((total, pid) => total + residentBytes(pid), 0);
}

/** @returns {number[]} */
function runningPids() {
  try {
    return readdirSync("/proc").filter((name) => /^\d+$/.test(name)).map(Number);
  } catch {
    return [];
  }
}

/**
 * @param {number} root
 * @param {Map<number, number>} parents
 */
function belowRoot(root, parents) {
  const found = [];
  for (let level = new Set([root]); level.size; ) {
    level = new Set([...parents].filter(([, parent]) => level.has(parent)).map(([pid]) => pid));
    found.push(...level);
  }
  return found;
}

/** @param {number} pid */
function parentOf(pid) {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "latin1");
    return Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1]);
  } catch {
    return null;
  }
}

/** @param {number} pid */
function residentBytes(pid) {
  try {
    const status = readFileSync(`/proc/${pid}/status`, "latin1");
    return Number(/^VmRSS:\s+(\d+) kB/m.exec(status)?.[1] ?? 0) * 1024;
  } catch {
    return 0;
  }
}
