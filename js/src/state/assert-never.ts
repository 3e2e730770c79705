/** Closes a union: a new member is a type error here, and a loud one at run time. */
export function assertNever(value: never): never {
  throw new Error(`Not a member of the union: ${JSON.stringify(value)}`);
}
