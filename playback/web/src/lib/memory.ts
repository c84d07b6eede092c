// What this browser remembers: small values in localStorage. A private window that refuses is no error.

export function remembered<T>(name: string, otherwise: T): T {
  try {
    const text = localStorage.getItem(`keyreel.${name}`);
    return text === null ? otherwise : (JSON.parse(text) as T);
  } catch {
    return otherwise;
  }
}

export function remember(name: string, value: unknown): void {
  try {
    localStorage.setItem(`keyreel.${name}`, JSON.stringify(value));
  } catch { /* not kept */ }
}
