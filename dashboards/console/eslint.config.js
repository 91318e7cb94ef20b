import reactHooks from "eslint-plugin-react-hooks";
import tseslint from "typescript-eslint";

// Layers: api and ui know neither parts nor features; parts (what several pages show) know no
// feature; features know each other not at all. app puts them together.
const forbid = (files, patterns, message) => ({
  files,
  rules: { "no-restricted-imports": ["error", { patterns: [{ group: patterns, message }] }] },
});

export default tseslint.config(
  { ignores: ["dist", "node_modules", "src/api/schema.d.ts", "e2e"] },
  {
    files: ["**/*.{ts,tsx}"],
    extends: [...tseslint.configs.strictTypeChecked, ...tseslint.configs.stylisticTypeChecked],
    languageOptions: { parserOptions: { projectService: true, tsconfigRootDir: import.meta.dirname } },
    plugins: { "react-hooks": reactHooks },
    rules: {
      ...reactHooks.configs["recommended-latest"].rules,
      "@typescript-eslint/restrict-template-expressions": ["error", { allowNumber: true }],
      "@typescript-eslint/consistent-type-definitions": ["error", "interface"],
      // What is taken out of an object by name, to keep the rest.
      "@typescript-eslint/no-unused-vars": ["error", { ignoreRestSiblings: true, varsIgnorePattern: "^_+$" }],
      // The router's redirects are thrown, and are no Errors.
      "@typescript-eslint/only-throw-error": "off",
      // An empty text is no value to show either.
      "@typescript-eslint/prefer-nullish-coalescing": ["error", { ignorePrimitives: { string: true } }],
      "@typescript-eslint/no-confusing-void-expression": ["error", { ignoreArrowShorthand: true }],
    },
  },
  forbid(["src/ui/**"], ["@/parts/*", "@/features/*", "@/app/*", "@/api/*"], "ui knows neither the API nor a page"),
  forbid(["src/api/**"], ["@/parts/*", "@/features/*", "@/app/*"], "api knows no page"),
  forbid(["src/parts/**"], ["@/features/*", "@/app/*"], "parts know no feature"),
  forbid(["src/features/**"], ["@/features/*", "@/app/*"], "features do not import each other"),
);
