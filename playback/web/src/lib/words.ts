// Two languages, side by side: each room of the page declares its words as [English, Vietnamese] and reads them by key,
// so a text without its translation does not compile. Reading one in a component draws it anew when the language changes.

import { signal } from "@preact/signals";
import { remembered, remember } from "./memory";

export type Locale = "en" | "vi";

function first(): Locale {
  const kept = remembered<string>("locale", "");
  if (kept === "en" || kept === "vi") return kept;
  return navigator.language.toLowerCase().startsWith("vi") ? "vi" : "en";
}

export const locale = signal<Locale>(first());

export function speak(language: Locale): void {
  locale.value = language;
  document.documentElement.lang = language;
  remember("locale", language);
}

type Pairs = Record<string, readonly [en: string, vi: string]>;

/** `words({hello: ["Hello {name}", "Chào {name}"]})("hello", {name})`. */
export function words<P extends Pairs>(pairs: P): (key: keyof P, values?: Record<string, string | number>) => string {
  return (key, values) => {
    const text: string = pairs[key]![locale.value === "vi" ? 1 : 0];
    return values ? text.replace(/\{(\w+)\}/g, (_, name: string) => String(values[name] ?? "")) : text;
  };
}

/** The same for words that the API gives, of which a newer server may have more: those are shown as they are. */
export function vocabulary(pairs: Pairs): (word: string) => string {
  return (word) => pairs[word]?.[locale.value === "vi" ? 1 : 0] ?? word;
}
