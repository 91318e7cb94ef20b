import { loadLanguage } from "@/i18n/messages";

// Words are chosen when modules load, so the language comes before everything else.
void loadLanguage().then(() => import("@/app/start"));
