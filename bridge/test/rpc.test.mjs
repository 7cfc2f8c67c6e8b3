/** One connection's side of the conversation, over sessions that the test plays. */

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { test } from "node:test";

import { Peer } from "../src/rpc.mjs";

/** A peer that has said hello, over sessions that only note what they are asked. */
async function greeted() {
  /** @type {any[]} */
  const said = [];
  /** @type {any[]} */
  const credits = [];
  /** @type {Array<(value: unknown) => void>} */
  const closing = [];
  const sessions = /** @type {any} */ ({
    list: () => ({ sessions: [] }),
    close: () => new Promise((resolve) => closing.push(resolve)),
    credit: (/** @type {unknown} */ params) => credits.push(params),
  });
  const peer = new Peer(sessions, (text) => said.push(JSON.parse(text)));
  await peer.take(JSON.stringify({ jsonrpc: "2.0", id: 1, method: "hello", params: { protocols: [1], client: "test/1" } }));
  said.length = 0;
  return { peer, said, credits, closing };
}

test("an id can be used again only once its request is answered", async () => {
  const { peer, said, closing } = await greeted();
  const request = { jsonrpc: "2.0", id: 7, method: "close", params: { session: randomUUID(), discard: false } };
  const first = peer.take(JSON.stringify(request));
  await peer.take(JSON.stringify(request));
  assert.deepEqual(said.map(({ id, error }) => [id, error.code]), [[7, -32600]]);
  assert.equal(closing.length, 1);
  closing[0]({});
  await first;
  await peer.take(JSON.stringify({ ...request, method: "list", params: {} }));
  assert.deepEqual(said.slice(1), [{ jsonrpc: "2.0", id: 7, result: {} }, { jsonrpc: "2.0", id: 7, result: { sessions: [] } }]);
});

test("only credit that is valid counts, and none before hello", async () => {
  const { peer, said, credits } = await greeted();
  const good = { session: randomUUID(), turn: "t", pieces: 3 };
  const early = new Peer(/** @type {any} */ ({ credit: () => assert.fail("credit before hello") }), () => {});
  await early.take(JSON.stringify({ jsonrpc: "2.0", method: "credit", params: good }));
  for (const wrong of [{ pieces: -1 }, { pieces: 0.5 }, { pieces: 2 ** 60 }, { pieces: "3" }, { turn: 1 }, { session: "../x" }]) {
    await peer.take(JSON.stringify({ jsonrpc: "2.0", method: "credit", params: { ...good, ...wrong } }));
  }
  assert.deepEqual(credits, []);
  await peer.take(JSON.stringify({ jsonrpc: "2.0", method: "credit", params: good }));
  assert.deepEqual([credits, said], [[good], []]);
});

test("a client that is gone has its turns interrupted", async () => {
  const { peer } = await greeted();
  let interrupted = 0;
  for (let count = 0; count < 2; count++) peer.exchanges.add(/** @type {any} */ ({ interrupt: () => interrupted++ }));
  peer.lost();
  assert.equal(interrupted, 2);
});
