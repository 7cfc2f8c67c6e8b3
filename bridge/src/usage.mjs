/** Per-turn figures from Claude Code's cumulative ones, as claude_code/_usage.py makes them. */

import { asObject } from "./text.mjs";

/**
 * @typedef {object} Usage
 * @property {number} input_tokens
 * @property {number} output_tokens
 * @property {number} cache_read_tokens
 * @property {number} cache_write_tokens
 * @property {number | null} cost_usd  null where it is not known
 */

/** @type {["input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens"]} */
const TOKENS = ["input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens"];
const IN_EVENTS = ["input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens"];
const IN_RESULTS = ["inputTokens", "outputTokens", "cacheReadInputTokens", "cacheCreationInputTokens"];

/**
 * @param {number | null} cost_usd
 * @returns {Usage}
 */
export function nothing(cost_usd = 0) {
  return { input_tokens: 0, output_tokens: 0, cache_read_tokens: 0, cache_write_tokens: 0, cost_usd };
}

/**
 * Follows one process. Its results carry totals since the session began or the last /clear; those of a resumed
 * session count what earlier processes spent, so its first turn has nothing to be compared with.
 *
 * That turn, and one whose result never came, is counted from the stream instead.
 */
export class UsageMeter {
  /** @type {Usage | null} */
  #total;
  /** @type {Map<string, Usage>} */
  #streamed = new Map();
  #message = "";

  /**
   * @param {object} options
   * @param {boolean} options.resumed
   */
  constructor({ resumed }) {
    this.#total = resumed ? null : nothing();
  }

  /** Forget what the last turn streamed. */
  beginTurn() {
    this.#streamed.clear();
    this.#message = "";
  }

  /** The totals start from zero again. */
  cleared() {
    this.#total = nothing();
  }

  /**
   * Note what a message_start or message_delta of the API says.
   * @param {Record<string, any>} event
   */
  sawEvent(event) {
    if (event.type === "message_start") {
      const message = asObject(event.message);
      this.#message = String(message.id ?? "");
      this.#streamed.set(this.#message, told(asObject(message.usage), IN_EVENTS, nothing()));
    } else if (event.type === "message_delta") {
      const before = this.#streamed.get(this.#message);
      if (before) this.#streamed.set(this.#message, told(asObject(event.usage), IN_EVENTS, before));
    }
  }

  /** What each of the turn's requests to the API has used, as far as the stream told. */
  get requests() {
    return [...this.#streamed.values()].map((usage) => ({ ...usage, cost_usd: null }));
  }

  /** What the turn has cost as far as the stream told; its price is not known. */
  get streamed() {
    const total = nothing(this.#streamed.size ? null : 0);
    for (const usage of this.#streamed.values()) for (const name of TOKENS) total[name] += usage[name];
    return total;
  }

  /**
   * The turn's share of the totals that its result carries. Of a turn that is not complete, Claude Code guesses the
   * tokens; what the API said of it counts then.
   * @param {unknown} modelUsage
   * @param {unknown} costUsd
   * @param {{complete: boolean}} how
   * @returns {Usage}
   */
  take(modelUsage, costUsd, { complete }) {
    if (typeof modelUsage !== "object" || modelUsage === null) return this.streamed;
    const total = nothing(amount(costUsd));
    for (const figures of Object.values(modelUsage)) {
      const one = told(asObject(figures), IN_RESULTS, nothing());
      for (const name of TOKENS) total[name] += one[name];
    }
    let last = this.#total;
    this.#total = total;
    if (last === null) return this.streamed;
    for (const name of TOKENS) if (last && total[name] < last[name]) last = nothing();
    const usage = nothing(Math.max(0, (total.cost_usd ?? 0) - (last.cost_usd ?? 0)));
    const counted = complete ? total : this.streamed;
    for (const name of TOKENS) usage[name] = complete ? counted[name] - last[name] : counted[name];
    return usage;
  }
}

/**
 * The figures that are given; those left out, or senseless, stay as they were.
 * @param {Record<string, any>} figures
 * @param {string[]} names
 * @param {Usage} before
 * @returns {Usage}
 */
function told(figures, names, before) {
  const usage = { ...before };
  TOKENS.forEach((name, index) => {
    const value = figures[names[index]];
    if (Number.isSafeInteger(value) && value >= 0) usage[name] = value;
  });
  return usage;
}

/**
 * @param {unknown} value
 */
function amount(value) {
  return typeof value === "number" && Number.isFinite(value) && value > 0 ? value : 0;
}
