/** What goes to a process, as the SDK takes it. */

/** @typedef {import("@anthropic-ai/claude-agent-sdk").SDKUserMessage} UserMessage */

/** The messages for the process, as the SDK takes them. */
export class Inbox {
  /** @type {UserMessage[]} */
  #messages = [];
  #ended = false;
  #wake = () => {};

  /** @param {UserMessage} message */
  put(message) {
    this.#messages.push(message);
    this.#wake();
  }

  end() {
    this.#ended = true;
    this.#wake();
  }

  async *[Symbol.asyncIterator]() {
    while (!this.#ended) {
      const message = this.#messages.shift();
      if (message) yield message;
      else await new Promise((resolve) => (this.#wake = () => resolve(undefined)));
    }
  }
}

/**
 * @param {string} text
 * @returns {UserMessage}
 */
export function userMessage(text) {
  return { type: "user", message: { role: "user", content: text }, parent_tool_use_id: null };
}
