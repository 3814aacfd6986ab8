/**
 * Brings the clips, which lie in scripts beside the page: each calls `listeningTestClip` with its audio as base64.
 *
 * Scripts, because a page that was opened from a disk may load nothing else.
 */

declare global {
  interface Window {
    listeningTestClip: (name: string, content: string) => void;
  }
}

const arrived = new Map<string, ArrayBuffer>();

window.listeningTestClip = (name, content) => {
  arrived.set(name, Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0)).buffer);
};

/** The clip's file, encoded as it is. Rejects when it cannot be loaded. */
export function loadClip(name: string): Promise<ArrayBuffer> {
  return new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = `audio/${name}.js`;
    script.onload = () => {
      script.remove();
      const content = arrived.get(name);
      arrived.delete(name);
      if (content === undefined) reject(new Error(`audio/${name}.js holds no audio`));
      else resolve(content);
    };
    script.onerror = () => {
      script.remove();
      reject(new Error(`audio/${name}.js could not be loaded`));
    };
    document.head.append(script);
  });
}
