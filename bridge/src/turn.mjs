/** One turn as Claude Code tells it: its text, its tools, what it cost, how it ended; see claude_code/_turn.py. */

import { Calls } from "./calls.mjs";
import { failed, failureOf, REFUSED_KEY, refusedKey, SHORT } from "./failures.mjs";
import { asObject, oneLine, shorten } from "./text.mjs";

/**
 * @typedef {object} Listener  what is told as the turn goes on
 * @property {(text: string) => Promise<void>} say
 * @property {(method: string, params: Record<string, unknown>) => Promise<void>} tell
 */

const SYNTHETIC = "<synthetic>";
const PARAGRAPH = "\n\n";

/** Takes a turn's messages one by one; what it has gathered is in its attributes. */
export class TurnReader {
  /** @type {Set<string>} ids of messages of which text was shown */
  #streamed = new Set();
  #message = "";
  #open = false;
  #callsTool = false;
  #newParagraph = false;
  #said = false;
  #retries = 0;
  /** @type {string | null} */
  #failureKind = null;
  /** What Claude Code wrote in place of an answer when the API failed. */
  #written = "";
  model = "";
  /** The uuid of the last row of the session that is part of the answer. @type {string | null} */
  position = null;
  /** How long nothing will come after the message just taken: the pause before another try. */
  pauseMs = 0;

  /**
   * @param {Listener} listener
   * @param {import("./confinement.mjs").Confinement} confinement
   * @param {Map<string, import("./confinement.mjs").Decision>} rulings
   * @param {import("./usage.mjs").UsageMeter} meter
   */
  constructor(listener, confinement, rulings, meter) {
    this.listener = listener;
    this.meter = meter;
    this.calls = new Calls(({ method, params }) => listener.tell(method, params), confinement, rulings);
  }

  /**
   * What is wrong with the turn that ended with `result`; null for a complete answer.
   * @param {Record<string, any>} result
   */
  failure(result) {
    return failureOf(result, { kind: this.#failureKind, written: this.#written });
  }

  /**
   * Work in one message; true once it is the last one, the result. Throws `failed` or `unavailable` where nothing
   * good can follow: the turn is still running then.
   * @param {Record<string, any>} message
   */
  async take(message) {
    this.pauseMs = 0;
    const own = (message.parent_tool_use_id ?? null) === null;
    if (message.type === "result") return true;
    if (message.type === "stream_event" && own) await this.#takeEvent(asObject(message.event));
    else if (message.type === "assistant" && own) await this.#takeAnswer(message);
    else if (message.type === "user") await this.calls.takeResults(message);
    else if (message.type === "system" && message.subtype === "api_retry") await this.#takeRetry(message);
    else if (message.type === "system" && message.subtype === "permission_denied") await this.calls.takeDenial(message);
    return false;
  }

  /**
   * @param {Record<string, any>} event
   */
  async #takeEvent(event) {
    this.meter.sawEvent(event);
    const delta = asObject(event.delta);
    if (event.type === "message_start") {
      this.#checkNotCut();
      this.#message = String(asObject(event.message).id ?? "");
      this.#open = true;
      this.#newParagraph = this.#said;
      this.#callsTool = false;
      await this.#tellSpent();
    } else if (event.type === "content_block_start") {
      this.#callsTool ||= asObject(event.content_block).type === "tool_use";
    } else if (event.type === "content_block_delta" && delta.type === "text_delta") {
      this.#streamed.add(this.#message);
      await this.#say(String(delta.text ?? ""));
    } else if (event.type === "message_delta" && (delta.stop_reason ?? null) !== null) {
      this.#open = false;
      this.#checkNotStoppedShort(String(delta.stop_reason));
      if (delta.stop_reason === "tool_use") await this.#tellSpent();
    }
  }

  /**
   * @param {string} text
   */
  async #say(text) {
    if (text === "") return;
    const start = this.#newParagraph ? PARAGRAPH : "";
    this.#newParagraph = false;
    this.#said = true;
    await this.listener.say(start + text);
  }

  async #tellSpent() {
    await this.listener.tell("turn.spent", { requests: this.meter.requests });
  }

  /** Claude Code asks again after a stream that broke off; text that was shown cannot be taken back. */
  #checkNotCut() {
    if (!this.#open || !this.#streamed.has(this.#message)) return;
    throw failed("cut", "the answer broke off in the middle, and was not asked for again because part of it was shown");
  }

  /**
   * Claude Code goes on by itself where an answer ended early, and calls the patchwork complete.
   * @param {string} stopReason
   */
  #checkNotStoppedShort(stopReason) {
    const reason = stopReason === "tool_use" && !this.#callsTool ? "cut" : SHORT[stopReason];
    if (reason !== undefined) throw failed(reason, `the answer ended with ${stopReason}`);
  }

  /**
   * @param {Record<string, any>} message
   */
  async #takeAnswer(message) {
    const inner = asObject(message.message);
    /** @type {Record<string, any>[]} */
    const blocks = Array.isArray(inner.content) ? inner.content.map(asObject) : [];
    const texts = blocks.filter((block) => block.type === "text").map((block) => String(block.text ?? ""));
    const kind = message.error ?? null;
    if (kind !== null || inner.model === SYNTHETIC) {
      this.#written = oneLine(texts.join(" ")) || String(kind ?? "");
      this.#failureKind = kind;
      return;
    }
    this.model = String(inner.model ?? "");
    this.position = message.uuid ?? this.position;
    if (texts.length && !this.#streamed.has(String(inner.id ?? ""))) {
      this.#newParagraph = this.#said;
      await this.#say(texts.join(""));
    }
    this.calls.asked(blocks);
  }

  /**
   * @param {Record<string, any>} data
   */
  async #takeRetry(data) {
    const status = typeof data.error_status === "number" ? data.error_status : null;
    if (status !== null && REFUSED_KEY.includes(status)) throw refusedKey(status);
    if (this.#open) {
      this.#checkNotCut();
      this.#open = false;
    }
    this.#retries += 1;
    const kind = String(data.error || "the connection failed");
    const waitMs = Number.isFinite(data.retry_delay_ms) ? Math.max(0, data.retry_delay_ms) : 0;
    this.pauseMs = waitMs;
    await this.listener.tell("turn.retried", {
      attempt: Number.isSafeInteger(data.attempt) && data.attempt > 0 ? data.attempt : this.#retries,
      reason: shorten(status === null ? kind : `${status} ${kind}`, 100),
      wait_s: waitMs / 1000,
    });
  }
}
