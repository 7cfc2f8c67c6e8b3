/** Which versions meet here. */

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";

/** The protocols that this bridge speaks. */
export const PROTOCOLS = [1];
export const SUBPROTOCOL = "claude-comms.bridge.v1";

/** @type {string} */
export const VERSION = JSON.parse(readFileSync(new URL("../package.json", import.meta.url), "utf8")).version;

/** The version of the Agent SDK that is installed. */
export function sdkVersion() {
  const entry = createRequire(import.meta.url).resolve("@anthropic-ai/claude-agent-sdk");
  return String(JSON.parse(readFileSync(join(dirname(entry), "package.json"), "utf8")).version);
}
