import { language } from "./language";

type Areas = Readonly<Record<string, object>>;

// English comes with the code that uses it; another language is one file, which only its readers load.
let loaded: Areas | undefined;

/**
 * Loads the page's language. It ends before any module that names a word is loaded; when it cannot be
 * had (the server just went away), the page is in English.
 */
export async function loadLanguage(): Promise<void> {
  if (language === "zh-CN") {
    try {
      loaded = (await import("./zh")).zh;
    } catch {
      loaded = undefined;
    }
  }
  if (typeof document !== "undefined") document.documentElement.lang = loaded ? language : "en";
}

/**
 * An area's words in the page's language. What stands here is English and says which words there are;
 * zh/ has the same area with the same keys, which the types and a test hold.
 */
export function messages<T extends object>(area: string, english: T): T {
  return (loaded?.[area] as T | undefined) ?? english;
}
