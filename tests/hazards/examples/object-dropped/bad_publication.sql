drop publication news;
