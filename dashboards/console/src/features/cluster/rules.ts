import type { components } from "@/api/schema";

export type Settings = components["schemas"]["Settings"];
type LogRules = components["schemas"]["LogRules"];

/** The lists of the rules: in the form an entry is a line. */
export const lists = ["namespaces", "workloads", "services", "mask"] as const;
export const selectors = ["selector", "annotations"] as const;
export const limits = ["lines_per_second", "bytes_per_second", "record_bytes"] as const;
export type RuleField = (typeof lists)[number] | (typeof selectors)[number] | (typeof limits)[number];

/** The rules as they are typed. */
export type LogForm = { readonly follow: boolean } & Readonly<Record<RuleField, string>>;

/** The entries of a text that has one in each line. */
export const entries = (text: string): string[] =>
  text
    .split("\n")
    .map((l) => l.replace(/\r$/, ""))
    .filter((l) => l.trim() !== "");

/** Whether a limit is one as it stands: empty, or a whole number. */
export const isLimit = (text: string): boolean => /^\d*$/.test(text);

export function formOf(settings: Settings): LogForm {
  const rules: LogRules = settings.log_rules ?? {};
  const list = (name: (typeof lists)[number]) => (rules[name] ?? []).join("\n");
  const limit = (name: (typeof limits)[number]) => (rules[name] ? String(rules[name]) : "");
  return {
    follow: settings.logs !== false,
    namespaces: list("namespaces"), workloads: list("workloads"), services: list("services"), mask: list("mask"),
    selector: rules.selector ?? "", annotations: rules.annotations ?? "",
    lines_per_second: limit("lines_per_second"), bytes_per_second: limit("bytes_per_second"), record_bytes: limit("record_bytes"),
  };
}

/** The settings with the form's rules; what else they say stays, and what the form leaves empty is left out. */
export function settingsOf(form: LogForm, before: Settings): Settings {
  const rules: LogRules = {};
  // A blank may be part of what is masked, and never is of a name.
  for (const name of lists) {
    const list = entries(form[name]).map((e) => (name === "mask" ? e : e.trim()));
    if (list.length > 0) rules[name] = list;
  }
  for (const name of selectors) if (form[name].trim() !== "") rules[name] = form[name].trim();
  for (const name of limits) if (form[name] !== "") rules[name] = Number(form[name]);
  const { logs, log_rules: _, ...others } = before;
  return { ...others, ...(form.follow ? (logs === undefined ? {} : { logs: true }) : { logs: false }), ...(Object.keys(rules).length > 0 ? { log_rules: rules } : {}) };
}

interface Wrong {
  readonly location: string;
  readonly message: string;
}

/** What the server says of each field, and what it says of none of them. */
export function placed(wrong: readonly Wrong[], form: LogForm): { readonly at: Partial<Record<RuleField, string>>; readonly left: readonly string[] } {
  const at: Partial<Record<RuleField, string>> = {};
  const left: string[] = [];
  for (const { location, message } of wrong) {
    const [, name, index] = /^body\.settings\.log_rules\.([a-z_]+)(?:\[(\d+)\])?/.exec(location) ?? [];
    if (name === undefined || !(name in form)) {
      left.push([location.replace(/^body\.(settings\.)?/, ""), message].filter(Boolean).join(": "));
      continue;
    }
    const field = name as RuleField;
    const entry = index === undefined ? undefined : entries(form[field])[Number(index)];
    const said = entry === undefined ? message : `${entry}: ${message}`;
    at[field] = at[field] === undefined ? said : `${at[field]}\n${said}`;
  }
  return { at, left };
}
