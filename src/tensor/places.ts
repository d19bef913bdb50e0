/**
 * Where a row of a key/value cache stands in its text, three i32 numbers a row: so one cache holds many texts that share
 * beginnings, each text a chain of runs of neighbouring rows.
 */
export const placesOf = {
  /** The cache row at which the run begins. */
  start: 0,
  /** The cache row that the run goes on from; -1 at the beginning of a text. */
  parent: 1,
  /** Its number in its text, from 0 on. */
  position: 2,
} as const;

export const PLACE_WORDS = 3;

/** Writes where row `row` of a batch stands. */
export function putPlace(places: Int32Array, row: number, place: Record<keyof typeof placesOf, number>): void {
  const at = row * PLACE_WORDS;
  places[at + placesOf.start] = place.start;
  places[at + placesOf.parent] = place.parent;
  places[at + placesOf.position] = place.position;
}
