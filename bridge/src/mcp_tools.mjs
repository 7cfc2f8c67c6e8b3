/** The bridge's methods as MCP tools: what each takes and gives, and what a model is told of it. */

import { Ajv2020 } from "ajv/dist/2020.js";

import { BridgeError } from "./errors.mjs";
import { SCHEMA } from "./schema.mjs";

/** @typedef {Record<string, any>} JsonSchema */

const text = { type: "string", minLength: 1 };
const session = { ...SCHEMA.$defs.SessionId, description: "The session's id, as open or claude_code gave it." };
const directory = { ...SCHEMA.$defs.AbsolutePath, description: "Absolute path of the directory that Claude Code sits in and may read." };
const settings = {
  directory,
  system: { ...text, description: "The whole system prompt. Left out: a short one about the directory." },
  model: { ...text, maxLength: 200, description: "The model's name. Left out: Claude Code's own choice." },
  tools: {
    type: "array",
    items: SCHEMA.$defs.Tool,
    uniqueItems: true,
    description: "The tools of Claude Code that the session may use, out of those that this server was started with. Left out: Read, Grep and Glob.",
  },
  max_output_tokens: { type: "integer", minimum: 1, maximum: 1_000_000 },
};

/**
 * @param {Record<string, JsonSchema>} properties
 * @param {string[]} required
 * @returns {JsonSchema}
 */
function closed(properties, required = []) {
  return { type: "object", properties, required, additionalProperties: false };
}

/**
 * The definition of that name with all that it refers to; as the root of a schema of its own.
 * @param {string} name
 * @param {Record<string, JsonSchema>} [more]  properties that it has besides
 * @returns {JsonSchema}
 */
function standalone(name, more = {}) {
  const root = SCHEMA.$defs[name];
  /** @type {Record<string, JsonSchema>} */
  const used = {};
  const waiting = [root];
  for (let one = waiting.pop(); one; one = waiting.pop()) {
    for (const [, found] of JSON.stringify(one).matchAll(/"#\/\$defs\/([^"]+)"/g)) {
      if (used[found]) continue;
      used[found] = SCHEMA.$defs[found];
      waiting.push(used[found]);
    }
  }
  const extended = { ...root, properties: { ...root.properties, ...more }, required: [...(root.required ?? []), ...Object.keys(more)] };
  return { ...extended, $defs: used };
}

const read = { readOnlyHint: true, destructiveHint: false, idempotentHint: true, openWorldHint: false };
const asks = { readOnlyHint: false, destructiveHint: false, idempotentHint: false, openWorldHint: true };
const answer = { type: "string", description: "The answer." };

/** The tools as `tools/list` gives them. */
export const TOOLS = [
  {
    name: "claude_code",
    title: "Ask Claude Code",
    description:
      "Asks Claude Code about the files in workFolder and returns its answer as text. Give the session of an earlier answer to go on with that conversation; without it a new one begins.",
    inputSchema: closed(
      {
        prompt: { ...text, description: "The question or task." },
        workFolder: { ...directory, description: "Absolute path of the directory to work in. Always needed." },
        session,
      },
      ["prompt", "workFolder"],
    ),
    outputSchema: { type: "object", properties: { session: SCHEMA.$defs.SessionId, text: answer }, required: ["session", "text"] },
    annotations: asks,
  },
  {
    name: "open",
    title: "Open a session",
    description: "Starts Claude Code in a directory and returns the session's id, to be given to turn. Close it when it is not needed any more.",
    inputSchema: closed(settings, ["directory"]),
    outputSchema: standalone("open.result"),
    annotations: asks,
  },
  {
    name: "resume",
    title: "Resume a session",
    description: "Goes on with a session that was closed or whose process died, with all that was said in it.",
    inputSchema: closed({ session, ...settings }, ["session", "directory"]),
    outputSchema: standalone("open.result"),
    annotations: asks,
  },
  {
    name: "turn",
    title: "Ask in a session",
    description: "Puts a question in an open session and returns the answer, what it cost, and which files were read for it.",
    inputSchema: closed({ session, text: { ...text, description: "The question." }, model: settings.model }, ["session", "text"]),
    outputSchema: standalone("turn.result", { text: answer }),
    annotations: asks,
  },
  {
    name: "interrupt",
    title: "Interrupt a session",
    description: "Stops the answer that a session is giving. The session stays open.",
    inputSchema: closed({ session }, ["session"]),
    outputSchema: standalone("interrupt.result"),
    annotations: { ...asks, openWorldHint: false },
  },
  {
    name: "close",
    title: "Close a session",
    description: "Ends a session's process. It can be resumed unless discard is true, which deletes what was said.",
    inputSchema: closed({ session, discard: { type: "boolean", default: false } }, ["session"]),
    outputSchema: standalone("close.result"),
    annotations: { ...asks, destructiveHint: true, openWorldHint: false },
  },
  {
    name: "list",
    title: "List sessions",
    description: "The sessions that are open, and which of them are answering.",
    inputSchema: closed({}),
    outputSchema: standalone("list.result"),
    annotations: read,
  },
  {
    name: "health",
    title: "Health of sessions",
    description: "Memory, age and last sign of life of the bridge and its sessions. Give prove to have that session's process answer first.",
    inputSchema: closed({ prove: session }),
    outputSchema: standalone("health.result"),
    annotations: read,
  },
];

const ajv = new Ajv2020({ strict: false, useDefaults: true });
const validators = new Map(TOOLS.map((tool) => [tool.name, ajv.compile(tool.inputSchema)]));

/**
 * The arguments of a call, checked. Throws what tells the model what to give.
 * @param {string} tool
 * @param {unknown} given
 * @returns {Record<string, any>}
 */
export function checkedArguments(tool, given) {
  const validate = validators.get(tool);
  if (!validate) throw new BridgeError("unavailable", `there is no tool ${tool}. There are: ${TOOLS.map(({ name }) => name).join(", ")}.`);
  const values = /** @type {Record<string, any>} */ (structuredClone(given ?? {}));
  if (validate(values)) return values;
  const [error] = validate.errors ?? [];
  const missing = error?.params?.missingProperty;
  if (missing === "workFolder" || error?.instancePath === "/workFolder") {
    throw new BridgeError("unavailable", "claude_code needs workFolder: the absolute path of the directory to work in. No other is taken in its place.");
  }
  const extra = error?.params?.additionalProperty;
  const where = error?.instancePath ? `${error.instancePath.slice(1)} ` : "";
  throw new BridgeError("unavailable", `${tool}: ${where}${error?.message}${extra === undefined ? "" : ` (${extra})`}. Correct the arguments.`);
}
