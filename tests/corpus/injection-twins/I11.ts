export function render(name: string): void {
  document.body.innerHTML = '<h1>' + name + '</h1>';
}
