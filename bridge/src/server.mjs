/** The WebSocket server: who may connect, who is still there, and when all ends. */

import { createServer } from "node:http";

import { WebSocketServer } from "ws";

import { Peer } from "./rpc.mjs";
import { Sessions } from "./sessions.mjs";
import { carriesToken } from "./token.mjs";
import { SUBPROTOCOL, VERSION } from "./versions.mjs";

const LONGEST_MESSAGE_BYTES = 32 * 1024 * 1024;
const PING_MS = 5_000;
const SILENT_MS = 15_000;
const ALONE_MS = 60_000;
const END_MS = 3_000;

/**
 * @typedef {object} Times  all in milliseconds
 * @property {number} pingMs
 * @property {number} silentMs
 * @property {number} aloneMs
 */

/** A bridge that listens. `close` may be called twice. */
export class BridgeServer {
  #token;
  #times;
  #http = createServer((_request, response) => response.writeHead(426).end());
  #sockets = new WebSocketServer({
    noServer: true,
    maxPayload: LONGEST_MESSAGE_BYTES,
    perMessageDeflate: false,
    handleProtocols: () => SUBPROTOCOL,
  });
  /** @type {Set<Peer>} */
  #peers = new Set();
  /** @type {NodeJS.Timeout | null} */
  #alone = null;
  /** @type {Promise<void> | null} */
  #closing = null;

  /**
   * @param {object} options
   * @param {string} options.token
   * @param {string[]} options.launcher
   * @param {Partial<Times>} [options.times]
   */
  constructor({ token, launcher, times = {} }) {
    this.#token = token;
    this.#times = { pingMs: PING_MS, silentMs: SILENT_MS, aloneMs: ALONE_MS, ...times };
    this.sessions = new Sessions({ launcher, notify: (method, params) => this.#tellAll(method, params) });
    this.#http.on("upgrade", (request, socket, head) => this.#upgrade(request, socket, head));
  }

  /**
   * Listen on 127.0.0.1; the port.
   * @param {number} port  0 takes a free one
   * @returns {Promise<number>}
   */
  async listen(port) {
    await new Promise((resolve, reject) => {
      this.#http.once("error", reject);
      this.#http.listen(port, "127.0.0.1", () => resolve(undefined));
    });
    this.#watchAlone();
    return this.port;
  }

  get port() {
    const address = this.#http.address();
    return typeof address === "object" && address !== null ? address.port : 0;
  }

  /** What `serve` prints, on one line. */
  get announcement() {
    return JSON.stringify({ port: this.port, pid: process.pid, version: VERSION, protocol: 1 });
  }

  // --- who may connect ---

  /**
   * @param {import("node:http").IncomingMessage} request
   * @param {import("node:stream").Duplex} socket
   * @param {Buffer} head
   */
  #upgrade(request, socket, head) {
    socket.on("error", () => socket.destroy());
    const refusal = this.#refusal(request);
    if (refusal) {
      socket.end(`HTTP/1.1 ${refusal}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`);
      return;
    }
    this.#sockets.handleUpgrade(request, socket, head, (connected) => this.#connected(connected));
  }

  /**
   * @param {import("node:http").IncomingMessage} request
   * @returns {string | null}
   */
  #refusal({ headers, url }) {
    const hosts = [`127.0.0.1:${this.port}`, `localhost:${this.port}`];
    if (!hosts.includes(headers.host ?? "")) return "403 Forbidden";
    if (headers.origin !== undefined && !hosts.some((host) => headers.origin === `http://${host}`)) return "403 Forbidden";
    if (!carriesToken(headers.authorization, this.#token)) return "401 Unauthorized";
    if (url !== "/") return "404 Not Found";
    const offered = (headers["sec-websocket-protocol"] ?? "").split(",").map((name) => name.trim());
    return offered.includes(SUBPROTOCOL) && this.#closing === null ? null : "400 Bad Request";
  }

  // --- who is there ---

  /** @param {import("ws").WebSocket} socket */
  #connected(socket) {
    const peer = new Peer(this.sessions, (text) => {
      if (socket.readyState === socket.OPEN) socket.send(text);
    });
    this.#peers.add(peer);
    this.#watchAlone();
    const beat = this.#heartbeat(socket);
    socket.on("message", (data, binary) => {
      if (binary) socket.close(1003, "text only");
      else void peer.take(data.toString());
    });
    socket.on("error", () => {});
    socket.on("close", () => {
      clearInterval(beat);
      this.#peers.delete(peer);
      peer.lost();
      this.#watchAlone();
    });
  }

  /** @param {import("ws").WebSocket} socket */
  #heartbeat(socket) {
    let heardAt = Date.now();
    for (const event of ["message", "ping", "pong"]) socket.on(event, () => (heardAt = Date.now()));
    return setInterval(() => {
      if (Date.now() - heardAt > this.#times.silentMs) socket.terminate();
      else socket.ping();
    }, this.#times.pingMs);
  }

  /**
   * @param {string} method
   * @param {Record<string, unknown>} params
   */
  #tellAll(method, params) {
    for (const peer of this.#peers) if (peer.greeted) peer.notify(method, params);
  }

  /** Close idle sessions once nobody has been there for a while. */
  #watchAlone() {
    if (this.#alone) clearTimeout(this.#alone);
    this.#alone = null;
    if (this.#peers.size || this.#closing) return;
    this.#alone = setTimeout(() => {
      void this.sessions.closeIdle();
      this.#watchAlone();
    }, this.#times.aloneMs);
  }

  // --- end ---

  /** Close all sessions and stop listening; within 3 s. */
  async close() {
    this.#closing ??= this.#close();
    await this.#closing;
  }

  async #close() {
    if (this.#alone) clearTimeout(this.#alone);
    this.#http.close();
    const bound = setTimeout(() => this.sessions.abandonAll(), END_MS - 500);
    await this.sessions.closeAll();
    clearTimeout(bound);
    for (const socket of this.#sockets.clients) socket.terminate();
    this.#http.closeAllConnections?.();
  }
}
