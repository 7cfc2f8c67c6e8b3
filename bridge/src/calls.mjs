/** The tool calls of one turn: what was used, what was refused, which files were read; see claude_code/_calls.py. */

import { FILE_TOOLS } from "./confinement.mjs";
import { joined, resolveLinks } from "./paths.mjs";
import { asObject, shorten } from "./text.mjs";

/**
 * @typedef {import("./confinement.mjs").Decision} Decision
 * @typedef {import("./confinement.mjs").Confinement} Confinement
 * @typedef {{method: "turn.tool", params: {tool: string, arguments: string}}
 *   | {method: "turn.refused", params: {tool: string, target: string, reason: string}}} Outcome
 * @typedef {{tool: string, arguments: unknown, outcome: Outcome | null, files: string[]}} Call
 */

const ARGUMENTS_SHOWN = 200;
const TAG = /<\/?tool_use_error>/g;
/** How Claude Code says that it refused a call. Believed of file tools only: what Bash prints could say it too. */
const DENIAL = /denied by your permission settings|^Permission to use|^Claude requested permissions/;

/** Follows the calls of a turn by their ids. Tells each once its outcome is known, in the order of the calls. */
export class Calls {
  /** @type {Map<string, Call>} */
  #known = new Map();
  #told = 0;

  /**
   * @param {(outcome: Outcome) => Promise<void>} tell
   * @param {Confinement} confinement
   * @param {Map<string, Decision>} rulings  what was decided before each call; grows while the turn runs
   */
  constructor(tell, confinement, rulings) {
    this.tell = tell;
    this.confinement = confinement;
    this.rulings = rulings;
  }

  /** Absolute paths of the files that were read, links followed, in the order of the calls: results come in any. */
  get files() {
    return [...new Set([...this.#known.values()].flatMap((call) => call.files))];
  }

  /**
   * Note the calls that a message of the model asks for.
   * @param {Record<string, any>[]} blocks
   */
  asked(blocks) {
    for (const block of blocks) {
      if (block.type === "tool_use") this.#know(String(block.id), String(block.name), block.input ?? {});
    }
  }

  /**
   * @param {string} id
   * @param {string} tool
   * @param {unknown} given
   * @returns {Call}
   */
  #know(id, tool, given) {
    const call = this.#known.get(id) ?? { tool, arguments: given, outcome: null, files: [] };
    this.#known.set(id, call);
    return call;
  }

  /** Tell of the calls that were decided and whose results are still to come. */
  async settleRunning() {
    for (const [id, call] of this.#known) {
      const ruling = this.rulings.get(id);
      if (call.outcome === null && ruling) call.outcome = ruling.allowed ? used(call) : refused(call, ruling.target, ruling.reason);
    }
    await this.#tellKnown();
  }

  /** Tell of all calls: none has a result to come. One that was never decided did not happen. */
  async settle() {
    await this.settleRunning();
    for (const [id, call] of this.#known) if (call.outcome === null) this.#known.delete(id);
    await this.#tellKnown();
  }

  async #tellKnown() {
    for (const call of [...this.#known.values()].slice(this.#told)) {
      if (call.outcome === null) return;
      this.#told += 1;
      await this.tell(call.outcome);
    }
  }

  /**
   * Claude Code itself refused a call, whatever we had decided.
   * @param {Record<string, any>} data
   */
  async takeDenial(data) {
    const id = String(data.tool_use_id);
    const call = this.#know(id, String(data.tool_name ?? ""), {});
    const reason = String(data.decision_reason || data.message || "refused by Claude Code");
    call.outcome ??= this.#refusal(id, call) ?? refused(call, this.#guess(call).target, reason);
    await this.#tellKnown();
  }

  /**
   * Note how calls ended.
   * @param {Record<string, any>} message
   */
  async takeResults(message) {
    const content = asObject(message.message).content;
    for (const block of Array.isArray(content) ? content : []) {
      const id = String(block?.tool_use_id);
      const call = block?.type === "tool_result" ? this.#known.get(id) : undefined;
      if (!call) continue;
      call.outcome ??= this.#outcome(id, call, block);
      if (!block.is_error) this.#noteFiles(call, this.rulings.get(id), message.tool_use_result);
    }
    await this.#tellKnown();
  }

  /**
   * @param {string} id
   * @param {Call} call
   * @param {Record<string, any>} result
   * @returns {Outcome}
   */
  #outcome(id, call, result) {
    const refusal = this.#refusal(id, call);
    if (refusal || !result.is_error) return refusal ?? used(call);
    if (!this.rulings.has(id)) {
      // Claude Code turned it away before it asked us; nothing happened, and our reason is the clearer one.
      const guess = this.#guess(call);
      if (!guess.allowed) return refused(call, guess.target, guess.reason);
    }
    const said = textOf(result.content).replace(TAG, "");
    const denied = FILE_TOOLS.includes(call.tool) && DENIAL.test(said);
    return denied ? refused(call, this.#guess(call).target, said) : used(call);
  }

  /**
   * @param {string} id
   * @param {Call} call
   */
  #refusal(id, call) {
    const ruling = this.rulings.get(id);
    return ruling && !ruling.allowed ? refused(call, ruling.target, ruling.reason) : null;
  }

  /**
   * @param {Call} call
   */
  #guess(call) {
    return this.confinement.rule(call.tool, call.arguments);
  }

  /**
   * @param {Call} call
   * @param {Decision | undefined} ruling
   * @param {unknown} result
   */
  #noteFiles(call, ruling, result) {
    if (call.tool === "Read" && ruling?.path) call.files.push(ruling.path);
    if (call.tool !== "Grep" || asObject(call.arguments).output_mode !== "content") return;
    const names = asObject(result).filenames;
    for (const name of Array.isArray(names) ? names : []) {
      call.files.push(resolveLinks(joined(this.confinement.directory, String(name))));
    }
  }
}

/**
 * @param {Call} call
 * @returns {Outcome}
 */
function used(call) {
  const shown = shorten(JSON.stringify(call.arguments) ?? "", ARGUMENTS_SHOWN);
  return { method: "turn.tool", params: { tool: shorten(call.tool, 64), arguments: shown } };
}

/**
 * @param {Call} call
 * @param {string} target
 * @param {string} reason
 * @returns {Outcome}
 */
function refused(call, target, reason) {
  const said = shorten(reason, ARGUMENTS_SHOWN);
  return { method: "turn.refused", params: { tool: shorten(call.tool, 64), target, reason: said } };
}

/**
 * @param {unknown} content
 */
function textOf(content) {
  if (typeof content === "string") return content;
  return Array.isArray(content) ? content.map((block) => String(block?.text ?? "")).join("\n") : "";
}
