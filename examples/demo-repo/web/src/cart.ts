/** 购物车：保存在内存里，提交前先检查库存，给店员一个早一点的提示。 */

import { createOrder, stockOf } from "./api";

export interface CartLine {
  sku: string;
  name: string;
  quantity: number;
  priceCents: number;
}

export class Cart {
  private readonly lines = new Map<string, CartLine>();

  /** 同一商品合并数量。 */
  add(line: CartLine): void {
    const existing = this.lines.get(line.sku);
    const quantity = (existing?.quantity ?? 0) + line.quantity;
    this.lines.set(line.sku, { ...line, quantity });
  }

  get totalCents(): number {
    let total = 0;
    for (const line of this.lines.values()) total += line.quantity * line.priceCents;
    return total;
  }

  get isEmpty(): boolean {
    return this.lines.size === 0;
  }

  /** 库存不够的商品名。 */
  async shortages(): Promise<string[]> {
    const short: string[] = [];
    for (const line of this.lines.values()) {
      if (!hasStock(line)) short.push(line.name);
    }
    return short;
  }

  /** 返回订单号。失败时购物车保持原样，店员可以改了再提交。 */
  async submit(receiver: string, remark: string, coupon?: string): Promise<number> {
    if (this.isEmpty) throw new Error("购物车是空的");
    const short = await this.shortages();
    if (short.length > 0) throw new Error(`库存不足：${short.join("、")}`);
    const lines = [...this.lines.values()].map(({ sku, quantity }) => ({ sku, quantity }));
    const id = await createOrder({ receiver, remark, lines, coupon });
    this.lines.clear();
    return id;
  }
}

async function hasStock(line: CartLine): Promise<boolean> {
  const available = await stockOf(line.sku);
  return available >= line.quantity;
}
