// Values under the pointer on curves; sorting and filtering of the table of runs. The page is whole without it.
// The fragment keeps what was asked for, so that a view can be linked to: #sort=-metric&filter=done
(function () {
  "use strict";
  var data = JSON.parse(document.getElementById("data").textContent);
  var asked = new URLSearchParams(location.hash.indexOf("=") > 0 ? location.hash.slice(1) : "");

  function number(value) {
    return Number(value.toPrecision(4)).toString();
  }

  // --- curves --------------------------------------------------------------------------------------------------------

  var tip = document.createElement("div");
  tip.className = "tip";
  tip.hidden = true;
  document.body.appendChild(tip);

  function nearest(points, x) {
    return points.reduce(function (best, it) {
      return Math.abs(it[0] - x) < Math.abs(best[0] - x) ? it : best;
    });
  }

  function follow(svg, chart) {
    var cross = svg.querySelector(".cross");
    var low = chart.x[0], high = chart.x[1], start = chart.x[2], end = chart.x[3];
    svg.addEventListener("pointermove", function (event) {
      var box = svg.getBoundingClientRect();
      var at = ((event.clientX - box.left) / box.width) * svg.viewBox.baseVal.width;
      var x = nearest(chart.lines[0][1], low + ((at - start) / (end - start)) * (high - low))[0];
      var place = start + ((x - low) / (high - low)) * (end - start);
      cross.setAttribute("x1", place);
      cross.setAttribute("x2", place);
      cross.setAttribute("visibility", "visible");
      var lines = chart.lines.map(function (line) {
        return line[0] + " " + number(nearest(line[1], x)[1]);
      });
      tip.textContent = chart.x_name + " " + number(x) + "\n" + lines.join("\n");
      tip.hidden = false;
      var left = event.clientX + 14;
      if (left + tip.offsetWidth > innerWidth - 8) left = event.clientX - tip.offsetWidth - 14;
      tip.style.left = left + "px";
      tip.style.top = event.clientY + 14 + "px";
    });
    svg.addEventListener("pointerleave", function () {
      tip.hidden = true;
      cross.setAttribute("visibility", "hidden");
    });
  }

  Object.keys(data.charts).forEach(function (id) {
    var chart = data.charts[id];
    if (chart.lines.length) follow(document.getElementById(id), chart);
  });

  // --- the table of runs ---------------------------------------------------------------------------------------------

  var table = document.getElementById("runs");
  if (!table) return;
  var body = table.tBodies[0];
  var rows = Array.from(body.rows);
  var buttons = Array.from(table.querySelectorAll("th button"));
  var input = document.getElementById("filter");
  var shown = document.getElementById("shown");
  var sorted = "";

  function remember() {
    var kept = new URLSearchParams();
    if (sorted) kept.set("sort", sorted);
    if (input.value) kept.set("filter", input.value);
    try {
      history.replaceState(null, "", "#" + kept.toString());
    } catch (error) {
      // a browser that keeps no fragment of a file: the view is only not linked to
    }
  }

  function value(row, index) {
    var cell = row.cells[index];
    if (cell.dataset.v !== undefined) return Number(cell.dataset.v);
    var text = cell.textContent.trim();
    return text !== "" && !isNaN(text) ? Number(text) : text === "–" ? null : text.toLowerCase();
  }

  function compare(a, b) {
    if (typeof a === typeof b) return a < b ? -1 : a > b ? 1 : 0;
    return typeof a === "number" ? -1 : 1;
  }

  function sort(key) {
    var isDown = key[0] === "-";
    var index = buttons.findIndex(function (it) {
      return it.dataset.key === key.slice(isDown ? 1 : 0);
    });
    if (index < 0) return;
    sorted = key;
    var keyed = rows.map(function (row) {
      return [value(row, index), row];
    });
    keyed.sort(function (a, b) {
      if (a[0] === null || b[0] === null) return (a[0] === null) - (b[0] === null); // what has no value comes last
      return isDown ? compare(b[0], a[0]) : compare(a[0], b[0]);
    });
    keyed.forEach(function (it) {
      body.appendChild(it[1]);
    });
    buttons.forEach(function (it, i) {
      if (i === index) it.parentNode.setAttribute("aria-sort", isDown ? "descending" : "ascending");
      else it.parentNode.removeAttribute("aria-sort");
    });
  }

  function filter() {
    var words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    var left = 0;
    rows.forEach(function (row) {
      var text = row.textContent.toLowerCase();
      row.hidden = !words.every(function (word) {
        return text.indexOf(word) >= 0;
      });
      if (!row.hidden) left += 1;
    });
    shown.textContent = (left < rows.length ? left + " of " : "") + rows.length + (rows.length === 1 ? " run" : " runs");
  }

  buttons.forEach(function (button) {
    button.addEventListener("click", function () {
      var key = button.dataset.key;
      var isNumber = button.parentNode.className === "number"; // of numbers the greatest is looked for first
      sort(sorted === key ? "-" + key : sorted === "-" + key ? key : isNumber ? "-" + key : key);
      remember();
    });
  });
  input.addEventListener("input", function () {
    filter();
    remember();
  });
  if (asked.get("filter")) input.value = asked.get("filter");
  if (asked.get("sort")) sort(asked.get("sort"));
  filter();
})();
