/** Sessions with the real Claude Code, against the loopback API. */

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { Bridge, Loopback, marked, Place, SKIP } from "./support/real.mjs";

/** @type {Loopback} */
let api;
/** @type {Place} */
let place;
/** @type {Bridge} */
let bridge;

before(async () => {
  if (SKIP) return;
  api = await new Loopback().start();
  place = new Place();
  bridge = await new Bridge(place, api.about.launcher).start();
});

after(async () => {
  if (SKIP) return;
  await bridge.close();
  await api.close();
  assert.deepEqual(marked(place.root), []);
  place.remove();
});

test("a session remembers what was said in it", { skip: SKIP }, async () => {
  const client = await bridge.connect();
  const start = place.start(api);
  const opened = await client.call("open", start);
  assert.equal(opened.session, start.session);
  const first = await client.ask(start.session, "one");
  assert.equal(client.text(first.turn), "Answer to one");
  assert.equal(first.stop_reason, "end_turn");
  assert.ok(first.usage.cache_write_tokens > 0 && first.usage.cost_usd > 0);
  await client.ask(start.session, "two");
  const [last] = (await api.requests()).slice(-1);
  assert.equal(last.messages.length, 3);
  await client.call("close", { session: start.session, discard: false });
  client.close();
});
