import { afterEach, describe, expect, it, vi } from "vitest";
import { preferred } from "./language";
import { zh as chinese } from "./zh";

const areas = import.meta.glob<Record<string, unknown>>(["./*.ts", "./*.tsx", "!./*.test.ts", "!./examples.ts", "!./language.ts", "!./messages.ts"], { eager: true });
const english = Object.fromEntries(Object.entries(areas).map(([file, module]) => [file.replace(/^\.\/|\.tsx?$/g, ""), Object.values(module)[0]]));

/** Every word by its path; a function by how many arguments it takes. */
function flat(words: unknown, path = ""): [string, unknown][] {
  if (typeof words !== "object" || words === null) return [[path, words]];
  return Object.entries(words).flatMap(([key, value]) => flat(value, path === "" ? key : `${path}.${key}`));
}
const shape = (words: unknown) => flat(words).map(([path, word]) => `${path}: ${typeof word}`).sort();

// Names and words that are the same in both.
const same = new Set(["Crowsnest", "Esc", "Pod", "YAML", "PromQL", "LogsQL", "CSV", "PNG", "JSON", "URL", "CPU", "API", "HTTP", "ID", "UTC", "MTTA", "MTTR", "Webhook", "webhook", "webhook-id", "Slack", "Microsoft Teams", "Discord", "PagerDuty", "Opsgenie", "Telegram", "Pushover", "Grafana", "OpenAPI"]);

describe("the catalogue", () => {
  it("has the same areas in both languages", () => expect(Object.keys(chinese).sort()).toEqual(Object.keys(english).sort()));

  describe.each(Object.keys(english))("%s", (area) => {
    const en = new Map(flat(english[area]));
    const zh = flat((chinese as Record<string, unknown>)[area]);

    it("has every word in Chinese, and no other", () => expect(shape(Object.fromEntries(zh))).toEqual(shape(Object.fromEntries(en))));

    it("leaves nothing empty or untranslated", () => {
      const bad = zh.filter(([path, word]) => {
        if (typeof word !== "string") return false;
        const original = en.get(path);
        if (original === "") return false;
        return word.trim() === "" || (word === original && /[a-z]{2}/i.test(word) && !same.has(word) && !/^[^a-z]*$/.test(word));
      });
      expect(bad).toEqual([]);
    });
  });
});

describe("the language", () => {
  afterEach(() => {
    vi.unstubAllGlobals();
    vi.resetModules();
  });

  it.each([
    [["de-DE", "zh-TW", "en"], "zh-CN"],
    [["en-GB", "zh-CN"], "en"],
    [["fr"], "en"],
    [[], "en"],
  ])("of %j is %s", (wanted, want) => expect(preferred(wanted)).toBe(want));

  const words = async (stored: string | null, browser: string[]) => {
    vi.resetModules();
    vi.stubGlobal("localStorage", { getItem: () => stored });
    vi.stubGlobal("navigator", { languages: browser });
    await (await import("./messages")).loadLanguage();
    return (await import("./settings")).settings.title;
  };
  it("is the browser's", async () => expect([await words(null, ["zh-CN"]), await words(null, ["en"])]).toEqual(["设置", "Settings"]));
  it("is what was chosen, whatever the browser wants", async () => expect([await words("zh-CN", ["en"]), await words("en", ["zh-CN"])]).toEqual(["设置", "Settings"]));
  it("is the browser's where the choice is none that there is", async () => expect(await words("tlh", ["zh-CN"])).toBe("设置"));

  it("counts by its own rule", async () => {
    vi.stubGlobal("navigator", { languages: ["en"] });
    vi.resetModules();
    const { plural, list } = await import("./language");
    expect([plural(0, "node"), plural(1, "node"), plural(1234, "policy", "policies")]).toEqual(["0 nodes", "1 node", "1,234 policies"]);
    expect(list(["a", "b", "c"])).toBe("a, b, and c");
  });
});
