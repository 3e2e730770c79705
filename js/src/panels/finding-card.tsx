/** One finding of the diagnosis, or one cause of the check: what, how it was seen, who suffers, and what can be done. */
import { useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import type { Finding } from "../kernel/checkup";
import type { Cause } from "../kernel/protocol";
import { doctorOf } from "../state/checkup";
import type { Page } from "../state/view";
import { headline, kindWords, victims } from "./finding-words";
import { plural } from "./format";
import { reveal } from "./reveal";
import { SEVERITY_WORDS, SeveritySign, StatusSign, statusWords } from "./sign";

/** A finding as it is shown: `mends` says that there is something to press, also where nobody knows yet what it would do. */
export type Told = Finding & { mends: boolean };

export const toldFinding = (finding: Finding): Told => ({ ...finding, mends: finding.repair !== null });

/** A cause, with what the diagnosis of the same place knows of its repair. */
export function toldCause(cause: Cause, findings: readonly Finding[]): Told {
  const found = findings.find((each) => each.kind === cause.kind && each.at === cause.at && each.text === cause.text);
  return {
    ...cause,
    name: cause.name ?? "",
    affected: cause.affects.length,
    repair: found?.repair ?? null,
    show: cause.name ?? found?.show ?? null,
    region: cause.region ?? found?.region ?? null,
    mends: found ? found.repair !== null : cause.mends,
  };
}

interface Props {
  page: Page;
  told: Told;
  /** Absent: it is always open. */
  fold?: { open: boolean; toggle(): void };
  /** Folded it still says its sentence. */
  brief?: boolean;
}

export function FindingCard({ page, told, fold, brief }: Props) {
  const open = fold?.open ?? true;
  const card = useRef<HTMLElement>(null);
  /** What opens by itself leaves the list where it is. */
  const pressed = useRef(false);
  useEffect(() => {
    if (open && pressed.current && card.current) reveal(card.current);
    pressed.current = false;
  }, [open]);
  const heading = headline(told);
  const place = told.at || told.name;
  const head = (
    <>
      <SeveritySign severity={told.severity} />
      <span class="wl-severity">{SEVERITY_WORDS[told.severity]}</span>
      <span class="wl-grow" />
      <span class="wl-kind-words">{kindWords(told.kind)}</span>
      {fold && (
        <svg class={`wl-fold${open ? " wl-open" : ""}`} viewBox="0 0 12 12" aria-hidden="true">
          <path d="M4.5 3 8 6l-3.5 3z" fill="currentColor" />
        </svg>
      )}
      <b class="wl-headline">{heading}</b>
      {!open && brief && <span class="wl-brief">{told.text}</span>}
      {/* What is open says where it is; a heading alone may not. */}
      {!open && !brief && place !== "" && !heading.includes(place) && <span class="wl-place">{place}</span>}
    </>
  );
  return (
    <article
      ref={card}
      class={`wl-card wl-finding wl-${told.severity}${open ? "" : " wl-folded"}`}
      data-kind={told.kind}
      data-severity={told.severity}
      aria-label={`${SEVERITY_WORDS[told.severity]}: ${heading}`}
    >
      {fold ? (
        <button
          type="button"
          class="wl-finding-head"
          aria-expanded={open}
          onClick={() => {
            pressed.current = true;
            fold.toggle();
          }}
        >
          {head}
        </button>
      ) : (
        <div class="wl-finding-head">{head}</div>
      )}
      {open && <FindingBody page={page} told={told} />}
    </article>
  );
}

function FindingBody({ page, told }: { page: Page; told: Told }) {
  const doctor = doctorOf(page);
  const explained = useSignal<string | null>(null);
  const explanation = useRef<HTMLParagraphElement>(null);
  const acts = useRef<HTMLDivElement>(null);
  useEffect(() => {
    if (explanation.current) reveal(explanation.current, { below: acts.current?.offsetHeight ?? 0 });
  }, [explained.value]);
  const { show, region } = told;
  const busy = doctor.doing.value !== "" || page.store.kernel.value === "restarted";

  async function showMe(): Promise<void> {
    if (show === null) return;
    page.view.stage.value = "picture";
    await page.actions.openTensor(show);
    if (region !== null) await page.actions.selectText(region);
  }

  async function explain(): Promise<void> {
    if (explained.value !== null) {
      explained.value = null;
      return;
    }
    const text = await page.actions.ask("explaining", () => doctor.explain(told.kind));
    explained.value = text;
  }

  return (
    <div class="wl-finding-body">
      <p>{told.text}</p>
      {told.evidence.length > 0 && (
        <ul class="wl-evidence">
          {told.evidence.map((line) => (
            <li key={line}>{line}</li>
          ))}
        </ul>
      )}
      <Victims page={page} told={told} />
      {(told.repair ?? told.advice) && (
        <p class="wl-remedy">
          <span>{told.repair ? "Repair" : "Advice"}</span> {told.repair ?? told.advice}
        </p>
      )}
      {explained.value !== null && (
        <p ref={explanation} class="wl-explained">
          {explained.value}
        </p>
      )}
      <div ref={acts} class="wl-finding-acts">
        {show !== null && (
          <button type="button" class="wl-ghost" title={`${show}${region ?? ""}`} onClick={() => void showMe()}>
            Show me
          </button>
        )}
        {told.mends && (
          <button
            type="button"
            class="wl-ghost"
            disabled={busy}
            title="One entry in the history; then it is checked again"
            onClick={() => void doctor.repair(told)}
          >
            Repair
          </button>
        )}
        <button type="button" class="wl-ghost" aria-expanded={explained.value !== null} onClick={() => void explain()}>
          Explain
        </button>
      </div>
    </div>
  );
}

function Victims({ page, told }: { page: Page; told: Told }) {
  const all = useSignal(false);
  const names = victims(told);
  if (names.length === 0) return null;
  const rows = new Map(page.store.gradients.value?.rows.map((row) => [row.name, row.status]));
  const shown = all.value ? names : names.slice(0, 4);
  const untold = told.affected - told.affects.length;
  return (
    <div class="wl-victims">
      <span class="wl-dim">{plural(names.length + untold, "parameter")} affected</span>
      {/* biome-ignore lint/a11y/noRedundantRoles: Safari forgets that a list without bullets is one. */}
      <ul role="list" aria-label="Affected parameters">
        {shown.map((name) => {
          const status = rows.get(name);
          return (
            <li key={name}>
              <button
                type="button"
                class="wl-victim"
                title={status ? `${name}: ${statusWords(status)}` : name}
                onClick={() => void page.actions.openTensor(name)}
              >
                {status && <StatusSign status={status} />}
                <bdi dir="ltr">{name}</bdi>
              </button>
            </li>
          );
        })}
      </ul>
      {names.length > shown.length && (
        <button
          type="button"
          class="wl-ghost"
          onClick={() => {
            all.value = true;
          }}
        >
          {names.length - shown.length} more
        </button>
      )}
      {all.value && untold > 0 && <span class="wl-dim">and {untold} more</span>}
    </div>
  );
}
