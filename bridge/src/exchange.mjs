/** One exchange: a question is put, its turn is read to the end or stopped; see claude_code/_exchange.py. */

import { BridgeError } from "./errors.mjs";
import { Flow } from "./flow.mjs";
import { TurnReader } from "./turn.mjs";
import { deferred, LATE, within } from "./waiting.mjs";

const STOP_MS = 800;
const STOP_AGAIN_MS = 250;
const STALL_MS = 300_000;
const TICK_MS = 5_000;
const LAST_WORDS_MS = 5_000;

/**
 * @typedef {Record<string, any>} Message
 * @typedef {(method: string, params: Record<string, unknown>) => void} Notify
 */

export class Exchange {
  #session;
  #request;
  #notify;
  #interrupted = /** @type {ReturnType<typeof deferred<"interrupted">>} */ (deferred());
  #allowed = /** @type {ReturnType<typeof deferred<"allowed">>} */ (deferred());
  #result = /** @type {ReturnType<typeof deferred<Message>>} */ (deferred());
  #failure = /** @type {ReturnType<typeof deferred<unknown>>} */ (deferred());
  #over = /** @type {ReturnType<typeof deferred<void>>} */ (deferred());
  /** Whether somebody wants it stopped. */
  stopping = false;
  #silent = false;
  #held = false;

  #limits;

  /**
   * @param {import("./session.mjs").Session} session
   * @param {{session: string, turn: string, text: string, model?: string, window: number}} request
   * @param {Notify} notify
   * @param {{stallMs: number, tickMs: number}} [limits]  how long the process may say nothing, and how often it is looked at
   */
  constructor(session, request, notify, limits = { stallMs: STALL_MS, tickMs: TICK_MS }) {
    this.#limits = limits;
    this.#session = session;
    this.#request = request;
    this.turn = request.turn;
    /** @type {Notify} */
    this.#notify = (method, params) => notify(method, { session: request.session, turn: request.turn, ...params });
    this.flow = new Flow(
      request.window,
      (piece, text) => this.#notify("turn.delta", { piece, text }),
      (held) => this.#hold(held),
    );
    const listener = {
      /** @param {string} text */
      say: (text) => this.flow.say(text),
      /** @param {string} method @param {Record<string, unknown>} params */
      tell: async (method, params) => {
        await this.flow.sent(); // what is told after a text comes after it
        this.#notify(method, params);
      },
    };
    this.reader = new TurnReader(listener, session.confinement, session.rulings, session.meter);
  }

  /** @param {number} pieces */
  allow(pieces) {
    this.flow.allow(pieces);
    this.#allowed.resolve("allowed");
  }

  /** Let the turn be stopped; what has no credit is not sent any more. */
  interrupt() {
    this.stopping = true;
    this.#interrupted.resolve("interrupted");
    this.flow.stop();
  }

  /** Settles once its session is free for the next. */
  get over() {
    return this.#over.promise;
  }

  /** Note that it is over. */
  end() {
    this.#over.resolve();
  }

  /** @param {boolean} held */
  #hold(held) {
    this.#held = held;
    this.#session.hold(held);
  }

  /**
   * Put the question once the client allows pieces, and read its answer. However it ends, the session can be asked
   * again or is dead; errors say how many pieces were sent and what the turn has cost.
   */
  async run() {
    const { model, text } = this.#request;
    const death = this.#session.gone.then((error) => Promise.reject(error));
    death.catch(() => {});
    this.#session.meter.beginTurn();
    try {
      this.#notify("turn.ready", {});
      const go = await Promise.race([this.#allowed.promise, this.#interrupted.promise, death]);
      if (go === "interrupted") throw this.#stoppedError(this.#session.meter.streamed);
      this.#session.listen((message) => this.#take(message));
      await this.#session.ask(text, model ?? this.#session.model);
      const result = await this.#read(death);
      await this.reader.calls.settle();
      return await this.#answer(result, death);
    } catch (error) {
      throw await this.#afterFailure(error);
    } finally {
      this.flow.stop();
      this.#session.listen(null);
    }
  }

  /**
   * @param {Message} message
   */
  async #take(message) {
    try {
      if (this.#silent ? message.type === "result" : await this.reader.take(message)) this.#result.resolve(message);
      this.#session.process?.expectQuiet(this.reader.pauseMs);
    } catch (error) {
      this.#silent = true;
      this.#failure.resolve(error);
    }
  }

  /**
   * @param {Promise<never>} death
   * @returns {Promise<Message>}
   */
  async #read(death) {
    const failure = this.#failure.promise.then((error) => Promise.reject(error));
    for (;;) {
      const outcome = await within(Promise.race([this.#result.promise, failure, death, this.#interrupted.promise]), this.#limits.tickMs);
      if (outcome === LATE) await this.#checkStalled();
      else if (outcome === "interrupted") return await this.#stopped();
      else return outcome;
    }
  }

  async #checkStalled() {
    if (this.#held) return this.#session.process?.expectQuiet(this.#limits.tickMs);
    await this.reader.calls.settleRunning();
    const quietMs = this.#session.process?.quietMs ?? 0;
    if (quietMs < this.#limits.stallMs) return;
    throw new BridgeError("failed", `Claude Code said nothing for ${Math.round(quietMs / 1000)} s. Ask again.`, {
      reason: "stalled",
      retryable: true,
    });
  }

  /** The result after an interrupt; an answer that was complete before the interrupt came is an answer. */
  async #stopped() {
    const result = await this.#stop();
    if (result !== null && this.flow.empty && this.reader.failure(result) === null) return result;
    throw this.#stoppedError(result === null ? this.#session.meter.streamed : this.#spent(result, false));
  }

  /** @param {import("./usage.mjs").Usage} usage */
  #stoppedError(usage) {
    return new BridgeError("interrupted", "the turn was interrupted.", { usage });
  }

  /** Interrupt until the turn's result comes; null where it does not come in time: the session is dead then. */
  async #stop() {
    const until = Date.now() + STOP_MS;
    this.flow.stop();
    while (Date.now() < until && this.#session.process?.alive) {
      // One that comes before the turn has begun is acknowledged and lost: say it again.
      await this.#session.interrupt();
      const result = await within(Promise.race([this.#result.promise, this.#session.gone.then(() => LATE)]), STOP_AGAIN_MS);
      if (result !== LATE) return /** @type {Message} */ (result);
    }
    await this.#session.lose("did not stop its turn, and was stopped");
    return null;
  }

  /**
   * Bring the turn to its end, so that the next one begins cleanly; and put what is known on the error.
   * @param {unknown} error
   */
  async #afterFailure(error) {
    if (!(error instanceof BridgeError)) {
      await this.#session.lose("was stopped, because its turn could not be read");
      return error;
    }
    this.#silent = true;
    let usage = error.data.usage ?? this.#session.meter.streamed;
    await within(this.reader.calls.settleRunning(), LAST_WORDS_MS);
    if (error.type === "crashed" || error.type === "protocol") await this.#session.close();
    else if (error.type !== "interrupted" && !("ended" in error.data)) {
      const result = await this.#stop();
      if (result !== null) usage = this.#spent(result, false);
    }
    // Only now: a call may have been decided until the turn had stopped.
    await within(this.reader.calls.settle().then(() => this.flow.sent()), LAST_WORDS_MS);
    const { ended: _, ...data } = error.data;
    error.data = { ...data, pieces: this.flow.pieces, usage };
    return error;
  }

  /**
   * @param {Message} result
   * @param {Promise<never>} death
   */
  async #answer(result, death) {
    const failure = this.reader.failure(result);
    const usage = this.#spent(result, failure === null);
    if (failure !== null) {
      failure.data = { ...failure.data, usage, ended: true };
      throw failure;
    }
    await Promise.race([this.flow.sent(), death]);
    if (!this.flow.empty) throw new BridgeError("interrupted", "the turn was interrupted.", { usage });
    this.#session.turns += 1;
    return {
      session: this.#request.session,
      turn: this.turn,
      pieces: this.flow.pieces,
      model: this.reader.model || this.#session.model,
      stop_reason: String(result.stop_reason),
      position: this.reader.position,
      usage,
      files: this.reader.calls.files,
    };
  }

  /**
   * @param {Message} result
   * @param {boolean} complete
   */
  #spent(result, complete) {
    return this.#session.meter.take(result.modelUsage, result.total_cost_usd, { complete });
  }
}
