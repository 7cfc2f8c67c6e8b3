/** What the SDK is told of a session: what it may do, and whom it asks. */

import { chmodSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { denyRules } from "./confinement.mjs";

/**
 * @typedef {import("@anthropic-ai/claude-agent-sdk").McpServerConfig} ServerConfig
 * @typedef {import("@anthropic-ai/claude-agent-sdk").Options} Options
 * @typedef {import("./confinement.mjs").Decision} Decision
 * @typedef {object} Host  who decides and who starts the process
 * @property {(useId: string | undefined, tool: string, given: unknown) => Decision} rule
 * @property {NonNullable<Options["spawnClaudeCodeProcess"]>} spawn
 */

/**
 * The options of `query()`. Writes the deny rules into the session's scratch folder.
 * @param {import("./session.mjs").Start} given
 * @param {boolean} resumed
 * @param {Host} host
 * @returns {Options}
 */
export function optionsFor(given, resumed, { rule, spawn }) {
  const servers = Object.entries(given.mcp_servers).map(([name, { definition }]) => [name, definition]);
  return {
    cwd: given.directory,
    env: { ...given.environment, CLAUDE_CODE_MAX_OUTPUT_TOKENS: String(given.max_output_tokens) },
    model: given.model,
    // In the initialize request, like the servers: every user of the machine can read a command line.
    systemPrompt: { type: "custom", prompt: given.system, snapshot: false },
    mcpServers: /** @type {Record<string, ServerConfig>} */ (Object.fromEntries(servers)),
    mcpServersDelivery: "initialize",
    settings: writeSettings(given.scratch),
    settingSources: [],
    strictMcpConfig: true,
    extraArgs: { restricted: null },
    permissionMode: "default",
    tools: given.tools,
    additionalDirectories: given.directories,
    includePartialMessages: true,
    canUseTool: async (tool, call, { toolUseID }) => {
      const decision = rule(toolUseID, tool, call);
      return decision.allowed ? { behavior: "allow", updatedInput: call } : { behavior: "deny", message: decision.reason };
    },
    hooks: { PreToolUse: [{ hooks: [beforeTool(rule)], onFailure: "block" }] },
    ...(given.binary === undefined ? {} : { pathToClaudeCodeExecutable: given.binary }),
    ...(resumed ? { resume: given.transcript ?? given.session } : { sessionId: given.session }),
    ...(resumed && given.position !== undefined ? { resumeSessionAt: given.position } : {}),
    spawnClaudeCodeProcess: spawn,
  };
}

/**
 * @param {Host["rule"]} rule
 * @returns {import("@anthropic-ai/claude-agent-sdk").HookCallback}
 */
function beforeTool(rule) {
  return async (input, useId) => {
    const call = /** @type {{tool_name?: unknown, tool_input?: unknown}} */ (input);
    const decision = rule(useId, String(call.tool_name), call.tool_input ?? {});
    return {
      hookSpecificOutput: {
        hookEventName: "PreToolUse",
        permissionDecision: decision.allowed ? "allow" : "deny",
        permissionDecisionReason: decision.reason,
      },
    };
  };
}

/**
 * Write the deny rules, for the owner's eyes alone.
 * @param {string} scratch
 */
function writeSettings(scratch) {
  const path = join(scratch, "settings.json");
  mkdirSync(scratch, { recursive: true, mode: 0o700 });
  writeFileSync(path, JSON.stringify({ permissions: { deny: denyRules() } }), { mode: 0o600 });
  chmodSync(path, 0o600);
  return path;
}
