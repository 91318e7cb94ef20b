import { messages } from "./messages";

export const settings = messages("settings", {
  title: "Settings",
  language: {
    title: "Language",
    label: "Language",
    byBrowser: (name: string) => `as the browser (${name})`,
    note: "Kept in this browser. The page loads anew.",
  },
});
