/** What the browser keeps of a session, so that a reload loses nothing. Without storage the page works, and forgets. */

const PREFIX = "fxnorm-page";

export function kept<Value>(name: string, otherwise: Value): Value {
  try {
    const text = localStorage.getItem(`${PREFIX}/${name}`);
    return text === null ? otherwise : (JSON.parse(text) as Value);
  } catch {
    return otherwise;
  }
}

export function keep(name: string, value: unknown): void {
  try {
    localStorage.setItem(`${PREFIX}/${name}`, JSON.stringify(value));
  } catch {
    // full or forbidden
  }
}

/** Everything whose name begins so. */
export function forget(beginning: string): void {
  try {
    for (const name of Object.keys(localStorage)) {
      if (name.startsWith(`${PREFIX}/${beginning}`)) localStorage.removeItem(name);
    }
  } catch {
    // nothing is kept then
  }
}
