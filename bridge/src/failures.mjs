/** How a turn of Claude Code can fail, as claude_code/_failures.py tells it. */

import { BridgeError } from "./errors.mjs";
import { oneLine, shorten } from "./text.mjs";

/** The statuses of a login that the API does not take. */
export const REFUSED_KEY = [401, 403];

/** Stop reasons of answers that are not whole, and how we call them. @type {Record<string, string>} */
export const SHORT = {
  max_tokens: "max_tokens",
  refusal: "refusal",
  model_context_window_exceeded: "context_window",
  pause_turn: "pause_turn",
};

/** Claude Code's names for what the API said. @type {Record<string, string>} */
const TYPES = {
  rate_limit: "rate_limited",
  overloaded: "overloaded",
  server_error: "server_error",
  invalid_request: "invalid_request",
  model_not_found: "invalid_request",
  billing_error: "billing",
  max_output_tokens: "max_tokens",
};

/** Its names for how a turn ended: terminal reasons, and subtypes of results. @type {Record<string, string>} */
const ENDS = {
  prompt_too_long: "context_window",
  error_max_turns: "max_turns",
  max_turns: "max_turns",
  aborted_streaming: "interrupted",
  aborted_tools: "interrupted",
};

/** @type {Record<number, string>} */
const STATUSES = { 400: "invalid_request", 402: "billing", 413: "context_window", 429: "rate_limited", 529: "overloaded" };
const PASSING = ["rate_limited", "overloaded", "server_error", "cut", "stalled"];
/** Words of Claude Code's about a connection that broke: such an end has neither status nor type. */
const BROKEN = ["connection", "stream", "incomplete", "terminated"];

/**
 * The error for a login that the API does not take.
 * @param {number | null} status
 */
export function refusedKey(status) {
  const told = status === null ? "" : ` (status ${status})`;
  return new BridgeError(
    "unavailable",
    `the API refuses Claude Code's API key or login${told}. Correct ANTHROPIC_API_KEY, or log in again.`,
    { status },
  );
}

function notLoggedIn() {
  return new BridgeError(
    "unavailable",
    "nobody is logged in to Claude Code here. Set ANTHROPIC_API_KEY, or log in with: claude /login",
  );
}

/**
 * The error of a turn without a complete answer.
 * @param {string} reason
 * @param {string} said
 */
export function failed(reason, said) {
  const retryable = PASSING.includes(reason);
  const advice = retryable ? " Ask again." : reason === "context_window" ? " Ask something shorter." : "";
  const message = `Claude Code got no complete answer (${reason}): ${said.replace(/\.+$/, "")}.${advice}`;
  return new BridgeError("failed", message, { reason, retryable });
}

/**
 * What is wrong with a turn that ended by itself; null for a complete answer.
 * @param {Record<string, any>} result
 * @param {object} how
 * @param {string | null} how.kind  the type of what Claude Code wrote in place of an answer
 * @param {string} how.written  what it wrote so
 */
export function failureOf(result, { kind, written }) {
  const status = result.api_error_status ?? null;
  if (result.is_error || result.subtype !== "success" || written) {
    if (kind === "authentication_failed" || REFUSED_KEY.includes(status)) {
      // Without a status nothing was sent: there was no login to send.
      return status === null ? notLoggedIn() : refusedKey(status);
    }
    const told = written || oneLine(String(result.result ?? "")) || (result.errors ?? []).map(String).join("; ");
    const said = shorten(told, 500);
    return failed(reasonOfResult(result, kind, said), said || String(result.subtype));
  }
  const ending = result.stop_reason ?? null;
  if (["end_turn", "stop_sequence", "tool_use"].includes(ending)) return null;
  return failed(ending === null ? "cut" : (SHORT[ending] ?? ending), `the answer ended with ${ending}`);
}

/**
 * By what the program says in names and numbers; its words only where it gives neither.
 * @param {Record<string, any>} result
 * @param {string | null} kind
 * @param {string} said
 */
function reasonOfResult(result, kind, said) {
  for (const name of [result.terminal_reason, result.subtype]) {
    if (typeof name === "string" && Object.hasOwn(ENDS, name)) return ENDS[name];
  }
  const status = result.api_error_status ?? null;
  if (kind === "billing_error" || status !== null) return reasonOf(status, kind);
  if (kind !== null && Object.hasOwn(TYPES, kind)) return TYPES[kind];
  return BROKEN.some((word) => said.toLowerCase().includes(word)) ? "cut" : "server_error";
}

/**
 * Our word for an HTTP status, and for its type where that tells more; null of both: a connection that broke.
 * @param {number | null} status
 * @param {string | null} [kind]
 */
export function reasonOf(status, kind = null) {
  if (kind === "billing_error") return TYPES[kind];
  if (status === null) return TYPES[kind ?? ""] ?? "cut";
  return STATUSES[status] ?? (status >= 500 ? "server_error" : "invalid_request");
}
