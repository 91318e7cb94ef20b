import { parseDocument, stringify } from "yaml";
import { policies as m } from "@/i18n/policies";
import { type Draft, type Spec, toPolicy } from "./draft";
import { dict, isDict, list } from "./model";

/** The draft as YAML, without what the server sets. */
export function draftText(draft: Draft): string {
  const { metadata, ...rest } = toPolicy(draft);
  const { revision: _, ...own } = metadata;
  return stringify({ apiVersion: rest.apiVersion, kind: rest.kind, metadata: own, spec: rest.spec }, { lineWidth: 0 });
}

/** A draft of what was written, or what is wrong with it and where. */
export function readText(text: string, draft: Draft): { draft: Draft } | { problem: string } {
  const doc = parseDocument(text);
  const [error] = doc.errors;
  if (error) {
    const at = error.linePos?.[0];
    return { problem: `${at ? m.edit.at(at.line, at.col) : ""}${error.message.split("\n")[0] ?? ""}` };
  }
  const value: unknown = doc.toJS();
  if (!isDict(value)) return { problem: m.edit.yaml.mapping };
  const { apiVersion, kind, metadata, spec } = value;
  if (apiVersion !== undefined && apiVersion !== "crowsnest.dev/v1") return { problem: m.edit.yaml.apiVersion };
  if (kind !== undefined && kind !== "Policy") return { problem: m.edit.yaml.kind };
  const name = dict(metadata).name;
  if (typeof name !== "string") return { problem: m.edit.yaml.name };
  if (!isDict(spec)) return { problem: m.edit.yaml.spec };
  if (typeof spec.level !== "string" || list(spec.conditions).length === 0) return { problem: m.edit.yaml.conditions };
  if (!list(spec.conditions).every(isDict)) return { problem: m.edit.yaml.each };
  // The name of what is changed stays: another name is another policy.
  if (draft.revision !== undefined && name !== draft.name) return { problem: m.edit.yaml.nameStays(draft.name) };
  const labels = Object.fromEntries(Object.entries(dict(dict(metadata).labels)).map(([k, v]) => [k, String(v)]));
  const conditions = list(spec.conditions).map((c) => ({ thresholds: {}, period: "", op: ">", ...dict(c) }));
  // The server judges the rest strictly, field by field.
  return { draft: { ...draft, name, labels, spec: { ...spec, conditions } as unknown as Spec } };
}

export interface DiffLine {
  readonly kind: "same" | "added" | "removed";
  readonly text: string;
}

/** What changes from one text to the other, by lines. */
export function diff(before: string, after: string): DiffLine[] {
  const a = before.trimEnd().split("\n");
  const b = after.trimEnd().split("\n");
  // The longest common subsequence; policies have tens of lines.
  const longest = Array.from({ length: a.length + 1 }, () => new Array<number>(b.length + 1).fill(0));
  const at = (i: number, j: number) => longest[i]?.[j] ?? 0;
  for (let i = a.length - 1; i >= 0; i--) {
    for (let j = b.length - 1; j >= 0; j--) {
      const row = longest[i];
      if (row) row[j] = a[i] === b[j] ? at(i + 1, j + 1) + 1 : Math.max(at(i + 1, j), at(i, j + 1));
    }
  }
  const found: DiffLine[] = [];
  let i = 0;
  let j = 0;
  while (i < a.length || j < b.length) {
    if (i < a.length && j < b.length && a[i] === b[j]) {
      found.push({ kind: "same", text: a[i] ?? "" });
      i++;
      j++;
    } else if (i < a.length && (j >= b.length || at(i + 1, j) >= at(i, j + 1))) found.push({ kind: "removed", text: a[i++] ?? "" });
    else found.push({ kind: "added", text: b[j++] ?? "" });
  }
  return found;
}
