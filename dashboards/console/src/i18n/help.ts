import { messages } from "./messages";

/** The guides. They are written in English; their names and what is around them are in both languages. */
export const help = messages("help", {
  title: "Help",
  guides: "Guides",
  reference: "Reference",
  names: {
    README: "Overview",
    "quick-start": "Quick start",
    concepts: "Concepts",
    policies: "Policies",
    webhooks: "Notifications",
    rules: "Prometheus' rules",
    operations: "Operations",
    troubleshooting: "Troubleshooting",
    "kube-prometheus-stack": "Moving over",
    "reference/metrics": "Metrics",
    "reference/presets": "Presets",
    "reference/api": "API",
    "reference/configuration": "Commands and settings",
    "reference/collector": "The collector's settings",
  },
  language: "",
  none: "There is no such guide",
  noneText: "All of them are listed beside.",
  what: "The guide",
});
