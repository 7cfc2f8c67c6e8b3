/** The tool calls of a turn, without a process. */

import assert from "node:assert/strict";
import { mkdtempSync, realpathSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";

import { Calls } from "../src/calls.mjs";
import { Confinement } from "../src/confinement.mjs";

test("files stand in the order of the calls, whatever order their results come in", async (context) => {
  const folder = realpathSync(mkdtempSync(join(tmpdir(), "calls-")));
  context.after(() => rmSync(folder, { recursive: true }));
  const names = ["first.py", "second.py", "third.py"];
  for (const name of names) writeFileSync(join(folder, name), "");
  const confinement = new Confinement({ directory: folder, directories: [], tools: ["Read"] });
  const rulings = new Map();
  /** @type {string[]} */
  const told = [];
  const calls = new Calls(async (outcome) => void told.push(JSON.stringify(outcome.params)), confinement, rulings);
  calls.asked(names.map((name) => ({ type: "tool_use", id: name, name: "Read", input: { file_path: name } })));
  for (const name of names) rulings.set(name, confinement.rule("Read", { file_path: name }));
  for (const name of [...names].reverse()) {
    const result = { type: "tool_result", tool_use_id: name, content: "", is_error: false };
    await calls.takeResults({ message: { content: [result] } });
  }
  assert.deepEqual(calls.files, names.map((name) => join(folder, name)));
  assert.deepEqual(told.map((params) => JSON.parse(JSON.parse(params).arguments).file_path), names);
});
