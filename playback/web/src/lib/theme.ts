// Dark or light: as the system has it until somebody chooses.

import { signal } from "@preact/signals";
import { remember, remembered } from "./memory";

export type Theme = "dark" | "light";
export const theme = signal<Theme>("dark");

export function startTheme(): void {
  const system = matchMedia("(prefers-color-scheme: light)");
  const follow = () => { theme.value = remembered<Theme | "">("theme", "") || (system.matches ? "light" : "dark"); };
  system.addEventListener("change", follow);
  follow();
  theme.subscribe((value) => { document.documentElement.dataset.theme = value; });
}

export function changeTheme(): void {
  theme.value = theme.value === "dark" ? "light" : "dark";
  remember("theme", theme.value);
}

/** A colour of the style sheet, for what is drawn on a canvas. */
export function colours<K extends string>(names: readonly K[]): Record<K, string> {
  const style = getComputedStyle(document.documentElement);
  return Object.fromEntries(names.map((name) => [name, style.getPropertyValue(`--${name}`).trim()])) as Record<K, string>;
}
