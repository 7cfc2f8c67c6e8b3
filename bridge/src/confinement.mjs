/**
 * What a session may do with tools: decided here, for each call, with the reason.
 *
 * The same decisions as claude_comms/background/backends/claude_runtime/confinement.py: both are tested by
 * test/confinement_cases.json. Claude Code confines itself too (--restricted, deny rules, its list of tools).
 */

import { readFileSync } from "node:fs";

import { BridgeError } from "./errors.mjs";
import { below, joined, kindOf, resolveLinks } from "./paths.mjs";
import { shorten } from "./text.mjs";

/**
 * @typedef {object} Decision  whether a call may go ahead, what it was aimed at, and why
 * @property {boolean} allowed
 * @property {string} target
 * @property {string} reason
 * @property {string | null} path  where an allowed file tool goes, with all links followed
 */

export const READING = ["Read", "Grep", "Glob"];
const OTHER = ["Bash", "WebFetch", "WebSearch"];
/** The tools that are confined to paths. */
export const FILE_TOOLS = [...READING, "Write", "Edit", "NotebookEdit"];

/** The tools that can be granted, by Claude Code's names. */
export const GRANTABLE = [...FILE_TOOLS, ...OTHER];

const PATH_ARGUMENTS = ["file_path", "path", "notebook_path"];
const SHOWN_CHARACTERS = 200;

/** @type {string[]} */
export const SECRET_NAMES = JSON.parse(readFileSync(new URL("../secret_names.json", import.meta.url), "utf8"));
const SECRETS = SECRET_NAMES.map((name) => ({ name, pattern: globbed(name) }));

/**
 * @param {string} name
 */
function globbed(name) {
  const escaped = name.replace(/[.+^${}()|[\]\\]/g, "\\$&");
  return new RegExp(`^${escaped.replaceAll("*", ".*").replaceAll("?", ".")}$`, "su");
}

/**
 * The pattern that one of the parts matches, or null. Give them below the granted directory.
 * @param {string[]} parts
 */
export function secretIn(parts) {
  for (const part of parts) {
    const lower = part.toLowerCase();
    const found = SECRETS.find(({ pattern }) => pattern.test(lower));
    if (found) return found.name;
  }
  return null;
}

/** The same as rules for Claude Code, which applies them to the files that Grep and Glob walk over as well. */
export function denyRules() {
  return SECRET_NAMES.flatMap((name) => [`Read(**/${name})`, `Read(**/${name}/**)`]);
}

export class Confinement {
  #tools;
  #roots;
  /** @type {string[]} */
  #wholeServers = [];
  /** @type {Set<string>} */
  #serverTools = new Set();

  /**
   * `denied` for a granted directory that does not exist.
   * @param {object} grants
   * @param {string} grants.directory
   * @param {string[]} grants.tools
   * @param {string[]} [grants.directories]
   * @param {Record<string, {tools: string[] | null}>} [grants.servers]
   */
  constructor({ directory, tools, directories = [], servers = {} }) {
    this.directory = directory;
    this.#tools = new Set(tools);
    for (const path of directories) refuseMissing(path);
    this.#roots = [directory, ...directories].map(resolveLinks);
    for (const [name, grant] of Object.entries(servers)) {
      if (grant.tools === null) this.#wholeServers.push(`mcp__${name}__`);
      for (const tool of grant.tools ?? []) this.#serverTools.add(`mcp__${name}__${tool}`);
    }
  }

  /**
   * The same as `decide`, and a refusal where it throws: what cannot be decided may not happen.
   * @param {string} tool
   * @param {unknown} given
   * @returns {Decision}
   */
  rule(tool, given) {
    try {
      return this.decide(tool, given);
    } catch (error) {
      return refusal("", `it could not be decided: ${shorten(String(error), SHOWN_CHARACTERS)}`);
    }
  }

  /**
   * Whether `tool` may be called with these arguments.
   * @param {string} tool
   * @param {unknown} given
   * @returns {Decision}
   */
  decide(tool, given) {
    const call = asArguments(given);
    const target = targetOf(call);
    const granted = { allowed: true, target, reason: `${tool} is granted`, path: null };
    // No name of a server holds "__", so none is the beginning of another's.
    if (this.#serverTools.has(tool) || this.#wholeServers.some((start) => tool.startsWith(start))) return granted;
    if (!this.#tools.has(tool)) return refusal(target, `${tool} is not granted`);
    if (OTHER.includes(tool)) return granted;
    const paths = pathsOf(tool, call, this.directory);
    for (const path of paths) {
      const reason = this.#objection(path);
      if (reason !== null) return refusal(target, reason);
    }
    return { ...granted, reason: `${tool} is granted inside the module's path`, path: resolveLinks(paths[0]) };
  }

  /**
   * @param {string} path
   * @returns {string | null}
   */
  #objection(path) {
    let resolved, kind;
    try {
      resolved = resolveLinks(path);
      kind = kindOf(resolved);
    } catch {
      return "the path cannot be followed";
    }
    const root = this.#roots.find((candidate) => below(resolved, candidate) !== null);
    if (root === undefined) return "outside the module's path";
    for (const parts of [below(resolved, root), below(path, root)]) {
      const pattern = parts && secretIn(parts);
      if (pattern) return `looks like a secret (${pattern})`;
    }
    return kind === "other" ? "neither a file nor a directory" : null;
  }
}

/**
 * @param {string} target
 * @param {string} reason
 * @returns {Decision}
 */
function refusal(target, reason) {
  return { allowed: false, target, reason, path: null };
}

/**
 * @param {string} path
 */
function refuseMissing(path) {
  let kind = "other";
  try {
    kind = kindOf(path);
  } catch {
    // told below
  }
  if (kind !== "directory") {
    throw new BridgeError("denied", `cannot grant directory:${path}: no directory that exists.`, {
      grant: `directory:${path}`,
    });
  }
}

/**
 * @param {unknown} given
 * @returns {Record<string, unknown>}
 */
function asArguments(given) {
  if (typeof given !== "object" || given === null || Array.isArray(given)) throw new TypeError("not an object");
  return /** @type {Record<string, unknown>} */ (given);
}

/**
 * The paths that a call touches; the pattern of Glob, and the filter of Grep, are paths too.
 * @param {string} tool
 * @param {Record<string, unknown>} call
 * @param {string} directory
 */
function pathsOf(tool, call, directory) {
  const name = PATH_ARGUMENTS.find((argument) => call[argument]);
  const given = name === undefined ? "" : call[name];
  if (typeof given !== "string") throw new TypeError(`${name} is no text`);
  const base = name === undefined ? directory : joined(directory, expanded(given));
  const pattern = call[tool === "Glob" ? "pattern" : "glob"];
  const walks = (tool === "Glob" || tool === "Grep") && typeof pattern === "string";
  return walks ? [base, joined(base, expanded(pattern))] : [base];
}

/**
 * The path with `~` as Claude Code reads it; its home is a private directory, never in a module's path.
 * @param {string} path
 */
function expanded(path) {
  return path.startsWith("~") ? `/${path}` : path;
}

/**
 * What the call is aimed at, shortened: a path, a command, an address, or all arguments.
 * @param {Record<string, unknown>} call
 */
function targetOf(call) {
  for (const name of [...PATH_ARGUMENTS, "command", "url", "query", "pattern"]) {
    const value = call[name];
    if (typeof value === "string" && value !== "") return shorten(value, SHOWN_CHARACTERS);
  }
  return Object.keys(call).length ? shorten(JSON.stringify(call), SHOWN_CHARACTERS) : "";
}
