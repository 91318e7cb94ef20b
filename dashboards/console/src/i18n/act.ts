import { messages } from "./messages";

/** The page that a link in a notification leads to. */
export const act = messages("act", {
  title: { acknowledge: "Acknowledge an incident", silence: "Silence an incident" },
  loading: "A link from a notification",
  what: "The link",
  incident: "Incident",
  severity: "Severity",
  cluster: "Cluster",
  since: "Since",
  until: "The link can be used until",
  told: "Told",
  acknowledgeText: "Reminders and escalation stop until its severity rises, another alert joins, or 24 h have passed. Nothing has happened yet.",
  silenceText: "Nobody is told of what matches; evaluation goes on. Nothing has happened yet.",
  mutes: "It mutes",
  hours: "For how many hours",
  comment: "Comment (optional)",
  acknowledge: "Acknowledge it",
  silence: "Silence it",
  done: { acknowledge: "Acknowledged. The link is used up.", silence: "Silenced. The link is used up." },
  used: "This link was used already; it works once.",
  resolved: "It was resolved meanwhile.",
  toIncident: "Open the incident",
});
