/** The errors that a client can tell apart: `type` and `data` go out as they are in schema.json's ErrorData. */

import { oneLine, shorten } from "./text.mjs";

export class BridgeError extends Error {
  /**
   * @param {string} type  one of ErrorData's
   * @param {string} message  ends with what to do
   * @param {Record<string, unknown>} [data]
   */
  constructor(type, message, data = {}) {
    super(message);
    this.name = "BridgeError";
    this.type = type;
    this.data = data;
  }
}

/**
 * @param {string} session
 */
export function unknownSession(session) {
  return new BridgeError("unknown_session", `there is no session ${session} here. Resume it, or open a new one.`);
}

/**
 * @param {string} message
 * @param {{exitCode?: number | null, signal?: string | null, stderrTail?: string}} [how]
 */
export function crashed(message, { exitCode = null, signal = null, stderrTail = "" } = {}) {
  return new BridgeError("crashed", message, { exit_code: exitCode, signal, stderr_tail: stderrTail });
}

export function closedError() {
  return crashed("the session was closed. Resume it, or open a new one.");
}

/**
 * @param {string} name
 * @param {string} reason
 */
export function unreached(name, reason) {
  const said = shorten(reason, 300);
  return new BridgeError("unavailable", `the MCP server ${JSON.stringify(name)}, which was granted, cannot be used: ${said}. Correct its definition.`);
}

/**
 * @param {unknown} error
 * @param {string} [tail]
 */
export function cannotStart(error, tail = "") {
  const said = oneLine(error instanceof Error ? error.message : String(error));
  const more = tail ? ` It said: ${shorten(tail, 500)}` : "";
  return new BridgeError("unavailable", `cannot start Claude Code: ${shorten(said, 500)}.${more} Check the directory and the binary.`);
}
