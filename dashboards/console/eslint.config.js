import reactHooks from "eslint-plugin-react-hooks";
import tseslint from "typescript-eslint";

// Layers: api and ui know neither parts nor features; parts (what several pages show) know no
// feature; features know each other not at all. app puts them together.
const forbid = (files, patterns, message) => ({
  files,
  rules: { "no-restricted-imports": ["error", { patterns: [{ group: patterns, message }] }] },
});

// What people read stands in src/i18n, in both languages.
const word = "/[A-Za-z]{2}/";
const sentence = "/[A-Za-z]{2,} [a-z]{2,}/";
const spoken = "/^(aria-label|alt|description|empty|header|help|label|note|placeholder|sentence|title|unit|what|words)$/";
const catalogue = [
  `JSXText[value=${word}]`,
  `JSXAttribute[name.name=${spoken}] > Literal[value=${word}]`,
  `JSXAttribute[name.name=${spoken}] > JSXExpressionContainer :matches(Literal[value=${sentence}], TemplateElement[value.raw=${sentence}])`,
  `:matches(JSXElement, JSXFragment) > JSXExpressionContainer > :matches(Literal[value=${word}], TemplateLiteral > TemplateElement[value.raw=${word}])`,
  `:matches(JSXElement, JSXFragment) > JSXExpressionContainer > ConditionalExpression > :matches(Literal[value=${word}], TemplateLiteral > TemplateElement[value.raw=${word}])`,
  `Property[key.name=${spoken}] > Literal[value=${word}]`,
  `Property[key.name=${spoken}] > TemplateLiteral > TemplateElement[value.raw=${word}]`,
  // A sentence is one wherever it stands; a BUG is told to nobody who uses the console.
  `:not(ImportDeclaration):not(NewExpression):not(TemplateLiteral) > Literal[value=${sentence}]`,
  `:not(NewExpression) > TemplateLiteral > TemplateElement[value.raw=${sentence}]`,
].map((selector) => ({ selector, message: "what people read stands in src/i18n, in both languages" }));

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
  {
    files: ["src/**/*.{ts,tsx}"],
    // What asks holds PromQL and LogsQL, which look like sentences.
    ignores: ["src/i18n/**", "src/features/*/queries.ts", "src/features/explore/model.ts", "src/features/incidents/model.ts", "src/parts/charts/model.ts", "src/parts/objects/marks.ts", "src/parts/objects/place.ts", "src/parts/sparks/store.ts", "src/**/*.test.{ts,tsx}", "src/test/**"],
    rules: { "no-restricted-syntax": ["error", ...catalogue] },
  },
  forbid(["src/i18n/**"], ["@/ui/*", "@/api/*", "@/parts/*", "@/features/*", "@/app/*"], "words know nothing of what shows them"),
  forbid(["src/ui/**"], ["@/parts/*", "@/features/*", "@/app/*", "@/api/*"], "ui knows neither the API nor a page"),
  forbid(["src/api/**"], ["@/parts/*", "@/features/*", "@/app/*"], "api knows no page"),
  forbid(["src/parts/**"], ["@/features/*", "@/app/*"], "parts know no feature"),
  forbid(["src/features/**"], ["@/features/*", "@/app/*"], "features do not import each other"),
);
