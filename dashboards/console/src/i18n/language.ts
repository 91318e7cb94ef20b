/** The languages that the console speaks; the first is what it is written in. */
export const languages = [
  { tag: "en", name: "English" },
  { tag: "zh-CN", name: "简体中文" },
] as const;
export type Language = (typeof languages)[number]["tag"];

/** Where a choice is kept. Nothing there means: as the browser wants it. */
const kept = "crowsnest.language";

const storage = (): Storage | undefined => {
  try {
    return globalThis.localStorage;
  } catch {
    return undefined; // Forbidden by the browser.
  }
};

const isLanguage = (tag: string | null | undefined): tag is Language => languages.some((l) => l.tag === tag);

/** What was chosen here; undefined when the browser decides. */
export function chosenLanguage(): Language | undefined {
  const tag = storage()?.getItem(kept);
  return isLanguage(tag) ? tag : undefined;
}

/** The first of what somebody reads that the console speaks. Every Chinese is served by the one that there is. */
export function preferred(wanted: readonly string[]): Language {
  for (const tag of wanted) {
    const base = tag.toLowerCase().split("-")[0];
    const found = languages.find((l) => l.tag.split("-")[0] === base);
    if (found) return found.tag;
  }
  return "en";
}

/**
 * The language of this page, for as long as it is open: words are chosen once, when modules load, so
 * that pure functions and tables of constants can name them. Another choice loads the page anew.
 */
export const language: Language = chosenLanguage() ?? preferred(typeof navigator === "undefined" ? [] : navigator.languages);

/** Keeps the choice; undefined leaves it to the browser. The caller loads the page anew. */
export function chooseLanguage(tag: Language | undefined): void {
  if (tag === undefined) storage()?.removeItem(kept);
  else storage()?.setItem(kept, tag);
}

/** Made once: making one costs more than all else that a table's cell does. */
const written = new Map<number, Intl.NumberFormat>();

/** A number as this language writes it. */
export function digits(v: number, maximumFractionDigits = 0): string {
  let format = written.get(maximumFractionDigits);
  if (format === undefined) written.set(maximumFractionDigits, (format = new Intl.NumberFormat(language, { maximumFractionDigits })));
  return format.format(v);
}

const rules = new Intl.PluralRules(language);

/** "1 node", "2 nodes", by the language's own rule of what counts as one. */
export const plural = (n: number, one: string, many = `${one}s`): string => `${digits(n)} ${rules.select(n) === "one" ? one : many}`;

/** "a, b and c" as the language joins a list. */
export const list = (all: readonly string[], type: "conjunction" | "disjunction" = "conjunction"): string => new Intl.ListFormat(language, { type }).format(all);

/** Words for what the server names; it may name more than there are words for. */
export const byName = (words: Record<string, string>): Record<string, string> => words;

/** What is said when the console itself could not be loaded. It stands here, as no file of words is there then. */
export const opening =
  language === "zh-CN"
    ? "控制台无法加载：服务器没有响应，或正在启动。一旦可用就会自动打开。"
    : "The console could not be loaded: the server does not answer, or is being started. It opens as soon as it can.";
