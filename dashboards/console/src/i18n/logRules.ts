import { list, plural } from "./language";
import { messages } from "./messages";

/** What a cluster's collectors are told about lines. */
export const logRules = messages("logRules", {
  title: "Log rules",
  version: (n: number) => `version ${n}`,
  none: "Nobody has set anything: collectors follow all logs, and mask what is known to be secret.",
  inForce: (n: number, of: number) => (of === 0 ? "No collector is connected: they get it when they come." : n === of ? `In force on ${plural(n, "connected collector")}.` : `In force on ${n} of ${plural(of, "connected collector")}.`),
  refused: (sender: string, why: string) => `${sender} keeps its last good rules: ${why}`,
  own: (senders: readonly string[]) => `Its own configuration wins on ${list(senders)}.`,
  follow: "Follow containers’ logs",
  followText: "Without it no lines are collected from this cluster.",
  which: "Which logs",
  whichText: "One pattern a line: * stands for any words, and ! in front leaves out. Empty takes all; every part that is given must match. A pod’s annotation logs.crowsnest.dev/collect: \"false\" leaves it out in any case.",
  masked: "Masked besides",
  limits: "What one container may write",
  limitsText: "The rest is dropped, counted, and told in its log. A pod’s annotations logs.crowsnest.dev/lines-per-second and …/bytes-per-second win.",
  noLimit: "no limit",
  notWhole: "must be a whole number",
  fields: {
    namespaces: { label: "Namespaces", text: "" },
    workloads: { label: "Workloads", text: "As type/name." },
    services: { label: "Services", text: "A name, or namespace/name. Of a pod that is of several, one that is left out decides." },
    selector: { label: "Labels of pods", text: "A Kubernetes selector." },
    annotations: { label: "Annotations of pods", text: "A Kubernetes selector of annotations that begin with logs.crowsnest.dev/." },
    mask: { label: "Regular expressions", text: "One a line (RE2): their groups, or else all that they match, become *** before a line leaves its node. Keys, tokens, passwords and the like are masked anyway." },
    lines_per_second: { label: "Lines a second", text: "" },
    bytes_per_second: { label: "Bytes a second", text: "" },
    record_bytes: { label: "Bytes of a record", text: "Longer ones are cut." },
  },
  tries: "lines that the patterns match",
  try: (pattern: string) => `Lines in which ${pattern} matches`,
  moved: (version: number) => `Somebody else saved version ${version} meanwhile.`,
  takeTheirs: "Begin again with it",
  save: "Save",
  saveText: "Goes to all connected collectors at once.",
});
