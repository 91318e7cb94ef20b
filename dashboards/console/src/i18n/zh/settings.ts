import type { settings } from "../settings";

export const zh: typeof settings = {
  title: "设置",
  language: {
    title: "语言",
    label: "语言",
    byBrowser: (name) => `跟随浏览器（${name}）`,
    note: "保存在此浏览器中，页面会重新加载。",
  },
};
