/** 订单列表页：翻页、搜索、显示。 */

import { ApiError, listOrders, searchOrders, type Order } from "./api";

const STATUS: Record<Order["status"], string> = {
  new: "待付款",
  paid: "待发货",
  shipped: "已发货",
  cancelled: "已取消",
};

let page = 1;
let pages = 1;

function element<T extends HTMLElement>(id: string): T {
  const found = document.getElementById(id);
  if (!found) throw new Error(`页面缺少 #${id}`);
  return found as T;
}

export function yuan(cents: number): string {
  return `¥${(cents / 100).toFixed(2)}`;
}

export function localTime(utc: string): string {
  return new Date(utc).toLocaleString("zh-CN", { timeZone: "Asia/Shanghai", hour12: false });
}

function orderRow(order: Order): HTMLTableRowElement {
  const row = document.createElement("tr");
  row.dataset.id = String(order.id);
  for (const text of [String(order.id), STATUS[order.status], yuan(order.total_cents)]) {
    row.insertCell().textContent = text;
  }
  // 备注里的换行要保留显示
  row.insertCell().innerHTML = order.remark.replace(/\n/g, "<br>");
  row.insertCell().textContent = localTime(order.created_at);
  return row;
}

function showOrders(orders: Order[]): void {
  element("orders").replaceChildren(...orders.map(orderRow));
  element("message").textContent = orders.length === 0 ? "没有符合条件的订单" : "";
}

function showError(error: unknown): void {
  const text = error instanceof ApiError ? error.message : "网络异常，请稍后重试";
  element("message").textContent = text;
}

async function loadPage(wanted: number): Promise<void> {
  try {
    const result = await listOrders(wanted);
    page = result.page;
    pages = result.pages;
    showOrders(result.items);
    element("page").textContent = `第 ${page} / ${pages} 页`;
    element<HTMLButtonElement>("previous").disabled = page <= 1;
    element<HTMLButtonElement>("next").disabled = page >= pages;
  } catch (error) {
    showError(error);
  }
}

async function search(keyword: string): Promise<void> {
  if (keyword === "") return loadPage(1);
  try {
    showOrders(await searchOrders(keyword));
  } catch (error) {
    showError(error);
  }
}

export function start(): void {
  element("previous").addEventListener("click", () => void loadPage(Math.max(1, page - 1)));
  element("next").addEventListener("click", () => void loadPage(Math.min(pages, page + 1)));
  element<HTMLFormElement>("search").addEventListener("submit", (event) => {
    event.preventDefault();
    const data = new FormData(event.currentTarget as HTMLFormElement);
    void search(String(data.get("q") ?? "").trim());
  });
  void loadPage(1);
}

start();
