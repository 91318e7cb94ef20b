import type { components } from "@/api/schema";

export type Settings = components["schemas"]["Settings"];
type LogRules = components["schemas"]["LogRules"];
type Multiline = components["schemas"]["Multiline"];

/** The lists of the rules: in the form an entry is a line. */
export const lists = ["namespaces", "workloads", "services", "mask"] as const;
export const selectors = ["selector", "annotations"] as const;
export const limits = ["lines_per_second", "bytes_per_second", "record_bytes"] as const;
export type RuleField = (typeof lists)[number] | (typeof selectors)[number] | (typeof limits)[number];

/** The lists of a rule on multi-line records: in the form an entry ends at a comma. */
export const multilineLists = ["namespaces", "workloads", "containers"] as const;
export type MultilineField = (typeof multilineLists)[number] | (typeof selectors)[number] | "start";
export type MultilineForm = { readonly off: boolean } & Readonly<Record<MultilineField, string>>;
export const multilineBlank: MultilineForm = { namespaces: "", workloads: "", containers: "", selector: "", annotations: "", start: "", off: false };
/** As many as the server takes. */
export const multilineMost = 32;

/** The rules as they are typed. */
export type LogForm = { readonly follow: boolean; readonly multiline: readonly MultilineForm[] } & Readonly<Record<RuleField, string>>;

/** The entries of a text that has one in each line. */
export const entries = (text: string): string[] =>
  text
    .split("\n")
    .map((l) => l.replace(/\r$/, ""))
    .filter((l) => l.trim() !== "");

const listed = (text: string): string[] =>
  text
    .split(",")
    .map((e) => e.trim())
    .filter((e) => e !== "");

function multilineOf(m: Multiline): MultilineForm {
  const list = (name: (typeof multilineLists)[number]) => (m[name] ?? []).join(", ");
  return { namespaces: list("namespaces"), workloads: list("workloads"), containers: list("containers"), selector: m.selector ?? "", annotations: m.annotations ?? "", start: m.start ?? "", off: m.off ?? false };
}

function multilineRule(form: MultilineForm): Multiline {
  const rule: Multiline = form.off ? { off: true } : form.start === "" ? {} : { start: form.start };
  for (const name of multilineLists) {
    const list = listed(form[name]);
    if (list.length > 0) rule[name] = list;
  }
  for (const name of selectors) if (form[name].trim() !== "") rule[name] = form[name].trim();
  return rule;
}

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
    multiline: (rules.multiline ?? []).map(multilineOf),
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
  if (form.multiline.length > 0) rules.multiline = form.multiline.map(multilineRule);
  const { logs, log_rules: _, ...others } = before;
  return { ...others, ...(form.follow ? (logs === undefined ? {} : { logs: true }) : { logs: false }), ...(Object.keys(rules).length > 0 ? { log_rules: rules } : {}) };
}

interface Wrong {
  readonly location: string;
  readonly message: string;
}

/** Where what is said of a rule on multi-line records is shown: what is said of the whole, at its pattern. */
export const multilineAt = (index: number, field: MultilineField) => `multiline[${index}].${field}`;

const isMultiline = (name: string): name is MultilineField => name in multilineBlank && name !== "off";

/** What the server says of each field, and what it says of none of them. */
export function placed(wrong: readonly Wrong[], form: LogForm): { readonly at: Readonly<Record<string, string>>; readonly left: readonly string[] } {
  const at: Record<string, string> = {};
  const left: string[] = [];
  const say = (where: string, entry: string | undefined, message: string) => {
    const said = entry === undefined || entry === "" ? message : `${entry}: ${message}`;
    at[where] = at[where] === undefined ? said : `${at[where]}\n${said}`;
  };
  for (const { location, message } of wrong) {
    const [, name, index, of, entry] = /^body\.settings\.log_rules\.([a-z_]+)(?:\[(\d+)\])?(?:\.([a-z]+)(?:\[(\d+)\])?)?/.exec(location) ?? [];
    const rule = name === "multiline" && index !== undefined ? form.multiline[Number(index)] : undefined;
    if (rule !== undefined && (of === undefined || isMultiline(of))) {
      const field = of ?? "start";
      say(multilineAt(Number(index), field), entry === undefined ? rule[field] : listed(rule[field])[Number(entry)], message);
    } else if (name === undefined || name === "follow" || name === "multiline" || !(name in form)) {
      left.push([location.replace(/^body\.(settings\.)?/, ""), message].filter(Boolean).join(": "));
    } else {
      say(name, index === undefined ? undefined : entries(form[name as RuleField])[Number(index)], message);
    }
  }
  return { at, left };
}
