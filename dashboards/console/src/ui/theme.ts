import { createTheme, type CSSVariablesResolver, type MantineColorsTuple } from "@mantine/core";
import { ui as m } from "@/i18n/ui";

// Greys with a little blue. Interactive things are ink on paper: colour is left to state.
const ink: MantineColorsTuple = [
  "#f6f7f9",
  "#eceef2",
  "#dde1e8",
  "#c3cad5",
  "#9aa4b4",
  "#6f7b8d",
  "#4d5869",
  "#343d4b",
  "#222a35",
  "#161c25",
];

const dark: MantineColorsTuple = [
  "#e6e9ee",
  "#c4cad4",
  "#9da7b6",
  "#6d7889",
  "#3b4554",
  "#2b3340",
  "#1f2630",
  "#171d26",
  "#11161d",
  "#0c1016",
];

export const theme = createTheme({
  primaryColor: "ink",
  primaryShade: { light: 8, dark: 3 },
  autoContrast: true,
  colors: { ink, dark },
  fontFamily: 'system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "DejaVu Sans", sans-serif',
  fontFamilyMonospace: 'ui-monospace, SFMono-Regular, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace',
  defaultRadius: "sm",
  cursorType: "pointer",
  components: {
    Tooltip: { defaultProps: { openDelay: 250, withArrow: true } },
    // Said, so that the rule of global.css finds them.
    Button: { defaultProps: { variant: "filled" } },
    // A cross alone says nothing to a reader who does not see it.
    Modal: { defaultProps: { closeButtonProps: { "aria-label": m.close } } },
    // The first item has the focus, not a placeholder before it, which no menu may have among its items.
    Menu: { defaultProps: { withInitialFocusPlaceholder: false } },
  },
});

export const cssVariables: CSSVariablesResolver = () => ({
  variables: {
    "--row": "32px",
    "--font-mono": "var(--mantine-font-family-monospace)",
    // Mantine's own red is too light to be read on paper.
    "--mantine-color-error": "var(--state-critical)",
  },
  light: {
    "--page": "#f4f5f8",
    "--paper": "#ffffff",
    "--sunken": "#eef0f4",
    "--hover": "#f1f4f9",
    "--line": "#dfe3ea",
    "--line-strong": "#c8cfda",
    "--text-1": "#161c25",
    "--text-2": "#596474",
    "--text-3": "#606b80",
    "--mantine-color-dimmed": "#596474",
    "--focus": "#2f6fde",
    "--state-critical": "#d1242f",
    "--state-critical-text": "#b91c28",
    "--state-critical-soft": "#fdeced",
    "--state-warning": "#e07b00",
    "--state-warning-text": "#a35400",
    "--state-warning-soft": "#fdf1e1",
    "--state-ok": "#2f9e5b",
    "--state-quiet": "#8a94a6",
    "--grid": "#e8ebf0",
    "--bar-used": "#4a5a75",
    "--bar-requested": "#b4bdcc",
  },
  dark: {
    "--page": "#0f141b",
    "--paper": "#171d26",
    "--sunken": "#10151c",
    "--hover": "#1e2632",
    "--line": "#2a3340",
    "--line-strong": "#3b4656",
    "--text-1": "#e6e9ee",
    "--text-2": "#a0abbb",
    "--text-3": "#8a96a8",
    "--mantine-color-dimmed": "#a0abbb",
    "--focus": "#6ea3ff",
    "--state-critical": "#f0525c",
    "--state-critical-text": "#ff8189",
    "--state-critical-soft": "#3a1b20",
    "--state-warning": "#f29a2e",
    "--state-warning-text": "#ffb75c",
    "--state-warning-soft": "#38280f",
    "--state-ok": "#3fb56f",
    "--state-quiet": "#7d899b",
    "--grid": "#222a35",
    "--bar-used": "#8fa3c4",
    "--bar-requested": "#3f4b5e",
  },
});
