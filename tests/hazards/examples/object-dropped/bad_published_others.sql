alter publication news set table tail;
