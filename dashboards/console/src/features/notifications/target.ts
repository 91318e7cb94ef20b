import type { components } from "@/api/schema";

// What a target is made of, by channel. Pure: a spec in, a spec out.

export type TargetSpec = components["schemas"]["TargetSpec"];
export type Channel = TargetSpec["type"];

export interface Field {
  /** Where it stands in the spec: "email.to". */
  readonly path: string;
  readonly kind: "text" | "secret" | "address" | "number" | "list" | "tls";
  readonly required?: true;
}

/** What each channel needs, in the order in which it is asked. An address may be a secret, and is shown without its path. */
export const channels: Readonly<Record<Channel, readonly Field[]>> = {
  webhook: [{ path: "url", kind: "address", required: true }],
  email: [
    { path: "email.to", kind: "list", required: true },
    { path: "email.from", kind: "text", required: true },
    { path: "email.host", kind: "text", required: true },
    { path: "email.port", kind: "number" },
    { path: "email.tls", kind: "tls" },
    { path: "email.username", kind: "text" },
    { path: "email.password", kind: "secret" },
  ],
  slack: [
    { path: "url", kind: "address" },
    { path: "slack.token", kind: "secret" },
    { path: "slack.channel", kind: "text" },
  ],
  teams: [{ path: "url", kind: "address", required: true }],
  discord: [{ path: "url", kind: "address", required: true }],
  pagerduty: [{ path: "pagerduty.routingKey", kind: "secret", required: true }],
  opsgenie: [
    { path: "opsgenie.apiKey", kind: "secret", required: true },
    { path: "opsgenie.teams", kind: "list" },
    { path: "url", kind: "address" },
  ],
  telegram: [
    { path: "telegram.botToken", kind: "secret", required: true },
    { path: "telegram.chatId", kind: "number", required: true },
    { path: "telegram.threadId", kind: "number" },
  ],
  pushover: [
    { path: "pushover.userKey", kind: "secret", required: true },
    { path: "pushover.token", kind: "secret", required: true },
  ],
  wecom: [{ path: "url", kind: "address", required: true }],
  wechat: [
    { path: "wechat.corpId", kind: "text", required: true },
    { path: "wechat.agentId", kind: "text", required: true },
    { path: "wechat.apiSecret", kind: "secret", required: true },
    { path: "wechat.toUser", kind: "text" },
    { path: "wechat.toParty", kind: "text" },
    { path: "wechat.toTag", kind: "text" },
  ],
  dingtalk: [
    { path: "url", kind: "address", required: true },
    { path: "dingtalk.secret", kind: "secret" },
  ],
  feishu: [
    { path: "url", kind: "address", required: true },
    { path: "feishu.secret", kind: "secret" },
  ],
};

/** As the server shows a secret. Written back like that, it stays as it is. */
export const masked = "***";
export const isMasked = (v: unknown): boolean => typeof v === "string" && (v === masked || v.endsWith(`/${masked}`));

type Dict = Readonly<Record<string, unknown>>;
const isDict = (v: unknown): v is Dict => typeof v === "object" && v !== null && !Array.isArray(v);

export function read(spec: TargetSpec, path: string): unknown {
  let at: unknown = spec;
  for (const key of path.split(".")) at = isDict(at) ? at[key] : undefined;
  return at;
}

const isNothing = (v: unknown): boolean => v === undefined || v === null || v === "" || v === false || (Array.isArray(v) && v.length === 0) || (isDict(v) && Object.keys(v).length === 0);

function put(at: Dict, [key = "", ...rest]: readonly string[], value: unknown): Dict {
  const inner = at[key];
  const next = rest.length === 0 ? value : put(isDict(inner) ? inner : {}, rest, value);
  const { [key]: _, ...others } = at;
  return isNothing(next) ? others : { ...others, [key]: next };
}

/** The spec with a value in its place; what is empty is left out, and so is what holds nothing but that. */
export const write = (spec: TargetSpec, path: string, value: unknown): TargetSpec => put(spec, path.split("."), value) as unknown as TargetSpec;

/** The same target over another channel: what only the one before had is gone. */
export function ofChannel(spec: TargetSpec, type: Channel): TargetSpec {
  const { evidence, timezone, fallback, rateLimit, heartbeat, selfWatch, calendar, maxBytes } = spec;
  const kept: Dict = { evidence, timezone, fallback, rateLimit, heartbeat, selfWatch, calendar, maxBytes };
  return { ...(Object.fromEntries(Object.entries(kept).filter(([, v]) => !isNothing(v))) as Omit<TargetSpec, "type">), type };
}

/** The required fields that are empty. The server has the last word on what is in the others. */
export function missing(spec: TargetSpec): string[] {
  const empty = channels[spec.type].filter((f) => f.required && isNothing(read(spec, f.path))).map((f) => f.path);
  if (spec.type === "slack" && isNothing(read(spec, "url")) && (isNothing(read(spec, "slack.token")) || isNothing(read(spec, "slack.channel")))) empty.push("url");
  if (spec.format === "template" && isNothing(spec.template?.body)) empty.push("template.body");
  if (spec.calendar && (spec.calendar.within ?? []).length === 0) empty.push("calendar.within");
  if (spec.rateLimit && !(spec.rateLimit.count >= 1 && spec.rateLimit.per !== "")) empty.push("rateLimit");
  return empty;
}

/** Where the messages go, in a few words. */
export function address(spec: TargetSpec): string {
  const said = [spec.url, (spec.email?.to ?? []).join(", "), spec.slack?.channel, spec.telegram?.chatId, (spec.opsgenie?.teams ?? []).join(", "), [spec.wechat?.toUser, spec.wechat?.toParty, spec.wechat?.toTag].filter(Boolean).join(" ")];
  return said.filter((w) => w !== undefined && w !== "").join(" ");
}

/** Headers as lines of "Name: value", and back. */
export const headerLines = (headers: Readonly<Record<string, string>> | undefined): string => Object.entries(headers ?? {}).map(([k, v]) => `${k}: ${v}`).join("\n");
export const parseHeaders = (text: string): Record<string, string> =>
  Object.fromEntries(
    text.split("\n").flatMap((line) => {
      const at = line.indexOf(":");
      return at < 1 ? [] : [[line.slice(0, at).trim(), line.slice(at + 1).trim()]];
    }),
  );
