import { messages } from "./messages";

/** What is said where an answer of the server cannot be had, or says nothing itself. */
export const asking = messages("asking", {
  answered: (status: number) => `The server answered ${status}.`,
  unreachable: "The server cannot be reached.",
});
