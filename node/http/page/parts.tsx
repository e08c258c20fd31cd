/** What every part of the page is made of. */
import type { ComponentChildren } from 'preact';

/** A part with a heading, and a line that says what it is about. */
export function Panel(props: {
  id: string;
  title: string;
  about: string;
  /** Of the three columns that there are on a wide screen. */
  columns?: 2 | 3;
  children: ComponentChildren;
}) {
  const { id, title, about, columns = 1, children } = props;
  return (
    <section class={`panel columns-${columns}`} aria-labelledby={id}>
      <h2 id={id}>{title}</h2>
      <p class="about">{about}</p>
      {children}
    </section>
  );
}

/** A number that matters, what it is, and what it means. */
export function Figure(props: { label: string; value: string; unit?: string; about: string }) {
  const { label, value, unit, about } = props;
  return (
    <div class="figure">
      <dt>{label}</dt>
      <dd>
        <span class="value">
          {value}
          {unit !== undefined && <span class="unit"> {unit}</span>}
        </span>
        <span class="about">{about}</span>
      </dd>
    </div>
  );
}

/** A bar that is `share` (0 to 1) full. */
export function Bar({ share, colour }: { share: number; colour: string }) {
  const width = `${Math.max(0, Math.min(1, share)) * 100}%`;
  return (
    <span class="bar" aria-hidden="true">
      {share > 0 && <span class={colour} style={{ width }} />}
    </span>
  );
}
