/** 接口的薄封装：带上令牌，把错误转成 ApiError。 */

export interface Order {
  id: number;
  status: "new" | "paid" | "shipped" | "cancelled";
  total_cents: number;
  remark: string;
  created_at: string;
}

export interface OrderPage {
  items: Order[];
  page: number;
  pages: number;
}

export interface NewOrder {
  receiver: string;
  remark: string;
  lines: { sku: string; quantity: number }[];
  coupon?: string;
}

export class ApiError extends Error {
  constructor(readonly status: number, message: string) {
    super(message);
  }
}

const BASE = "/api";

async function request<T>(path: string, init: RequestInit = {}): Promise<T> {
  const headers = new Headers(init.headers);
  const token = sessionStorage.getItem("token");
  if (token) headers.set("Authorization", `Bearer ${token}`);
  if (init.body) headers.set("Content-Type", "application/json");
  const response = await fetch(BASE + path, { ...init, headers });
  if (!response.ok) {
    const detail = await response.json().catch(() => ({}));
    throw new ApiError(response.status, String(detail.detail ?? response.statusText));
  }
  return (await response.json()) as T;
}

export function listOrders(page: number, size = 20): Promise<OrderPage> {
  return request(`/orders?page=${page}&size=${size}`);
}

export async function searchOrders(keyword: string): Promise<Order[]> {
  const query = new URLSearchParams({ q: keyword });
  const result = await request<{ items: Order[] }>(`/orders/search?${query}`);
  return result.items;
}

export async function stockOf(sku: string): Promise<number> {
  const result = await request<{ quantity: number }>(`/stock/${encodeURIComponent(sku)}`);
  return result.quantity;
}

export async function createOrder(order: NewOrder): Promise<number> {
  const result = await request<{ id: number }>("/orders", { method: "POST", body: JSON.stringify(order) });
  return result.id;
}
