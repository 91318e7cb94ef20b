import { expect, it } from "vitest";
import { endOf, humps } from "./cut";

it.each([
  ["a pod's", "legacy-sync-bw57hz8ctj-lf4v5", "-lf4v5"],
  ["a stateful pod's", "postgres-primary-12", "-12"],
  ["a host's", "ip-10-1-2-3.eu-west-1.internal", ".internal"],
  ["one whose last part is long", "prometheus-operatorconfiguration", "ration"],
  ["one whose last part is most of it", "train-embeddings", "ddings"],
  ["one without parts", "averyverylongname", "ngname"],
  ["a short one", "cart", ""],
  ["one that is all end", "web-lf4v5", ""],
  ["none", "", ""],
  ["one that ends in what needs two halves", "servers-without-partsx🔥🔥🔥", "🔥🔥🔥"],
])("keeps the end of %s name", (_, name, end) => expect(endOf(name)).toBe(end));

it.each([
  ["CrashLoopBackOff", "Crash Loop Back Off"],
  ["CreateContainerConfigError", "Create Container Config Error"],
  ["ContainerCreating", "Container Creating"],
  ["Running", "Running"],
  ["OOMKilled", "OOMKilled"],
])("breaks %s", (word, parts) => expect(humps(word).join(" ")).toBe(parts));
