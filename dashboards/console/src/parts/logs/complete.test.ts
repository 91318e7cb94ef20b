import { expect, it } from "vitest";
import { type Place, placeAt } from "./complete";

const value = (field: string, prefix: string, from: number, quote = ""): Place => ({ kind: "value", field, prefix, from, quote });

it.each<[string, Place]>([
  ["", { kind: "term", from: 0 }],
  ["lev", { kind: "term", from: 0 }],
  ["error na", { kind: "term", from: 6 }],
  ["error -na", { kind: "term", from: 7 }],
  ["(a or na", { kind: "term", from: 6 }],
  ["level:", value("level", "", 6)],
  ["level:wa", value("level", "wa", 6)],
  ["-level:=wa", value("level", "wa", 8)],
  ['pod:="ca', value("pod", "ca", 5, '"')],
  ['x pod:="a b', value("pod", "a b", 7, '"')],
  ["level:in(error, wa", value("level", "wa", 16)],
  ['level:in("er', value("level", "er", 9, '"')],
  ['"a b":c', value("a b", "c", 6)],
  ["status:>=5", { kind: "none" }],
  ['"a phrase lev', { kind: "none" }],
  ['"a | b" le', { kind: "term", from: 8 }],
  ["level:equals_common_case(wa", value("level", "wa", 25)],
  ["id:in(b | fi", { kind: "pipe", from: 10 }],
  ["id:in(b | fields i", { kind: "field", from: 17 }],
  ["a | st", { kind: "pipe", from: 4 }],
  ["a |", { kind: "pipe", from: 3 }],
  ["a | stats co", { kind: "function", from: 10 }],
  ["a | stats by (wo", { kind: "field", from: 14 }],
  ["a | stats by (workload) co", { kind: "function", from: 24 }],
  ["a | stats count() n, su", { kind: "function", from: 21 }],
  ["a | stats sum(by", { kind: "field", from: 14 }],
  ["a | sort by (_t", { kind: "field", from: 13 }],
  ["a | fields pod, le", { kind: "field", from: 16 }],
  ["a | filter level:wa", value("level", "wa", 17)],
  ["a | stats count() n | limit 1", { kind: "none" }],
  ["a | stats count() n | so", { kind: "pipe", from: 22 }],
])("at the end of %j it is %j", (text, want) => expect(placeAt(text)).toEqual(want));
