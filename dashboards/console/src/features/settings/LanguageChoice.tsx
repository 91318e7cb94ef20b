import { NativeSelect } from "@mantine/core";
import { chooseLanguage, chosenLanguage, languages, preferred } from "@/i18n/language";
import { settings as m } from "@/i18n/settings";
import { Section } from "@/ui/Bits";
import classes from "./settings.module.css";

/** The console's language in this browser. */
export function LanguageChoice() {
  const byBrowser = languages.find((l) => l.tag === preferred(navigator.languages));
  return (
    <Section title={m.language.title}>
      <div className={classes.narrow}>
        <NativeSelect
          label={m.language.label}
          description={m.language.note}
          value={chosenLanguage() ?? ""}
          data={[{ value: "", label: m.language.byBrowser(byBrowser?.name ?? "") }, ...languages.map((l) => ({ value: l.tag, label: l.name }))]}
          onChange={(e) => {
            chooseLanguage(languages.find((l) => l.tag === e.currentTarget.value)?.tag);
            globalThis.location.reload();
          }}
        />
      </div>
    </Section>
  );
}
