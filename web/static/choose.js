// Lists whose lines can be chosen: one box for all of a page, and how many are chosen. Without JavaScript the boxes and the buttons
// work as they are, and the stylesheet dims what waits for a choice.

const boxesOf = (form) => [...form.querySelectorAll("tbody input[type=checkbox]")];

function say(form) {
  const boxes = boxesOf(form);
  const chosen = boxes.filter((box) => box.checked).length;
  const all = form.querySelector("[data-all]");
  const count = form.querySelector("[data-count]");
  if (all) {
    all.hidden = !boxes.length;
    all.checked = chosen > 0 && chosen === boxes.length;
    all.indeterminate = chosen > 0 && chosen < boxes.length;
  }
  if (count) {
    count.hidden = false;
    count.textContent = `${chosen} chosen`;
  }
}

document.addEventListener("change", (event) => {
  const form = event.target.closest("form.choose");
  if (!form) return;
  if (event.target.matches("[data-all]")) for (const box of boxesOf(form)) box.checked = event.target.checked;
  say(form);
});

const sayAll = () => document.querySelectorAll("form.choose").forEach(say);
addEventListener("pageshow", sayAll); // a page that was gone back to has its boxes as they were left
sayAll();
